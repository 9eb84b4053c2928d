import asyncio

from aiobotocore.session import get_session
from common import *


async def run():
    keys = dict(region_name=REGION, endpoint_url=ENDPOINT, aws_access_key_id=KEY, aws_secret_access_key=SECRET)
    async with get_session().create_client("sts", **keys) as sts:
        line("GetCallerIdentity", arn((await sts.get_caller_identity())["Arn"]))
        credentials = (await sts.assume_role(RoleArn=ROLE, RoleSessionName="aio"))["Credentials"]
    keys.update(
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )
    async with get_session().create_client("sts", **keys) as sts:
        line("AssumeRole", arn((await sts.get_caller_identity())["Arn"]))


version("aiobotocore")
asyncio.run(run())
