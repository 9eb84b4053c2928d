import { IAMClient, ListMFADevicesCommand } from "@aws-sdk/client-iam";
import {
  AssumeRoleCommand,
  AssumeRoleWithWebIdentityCommand,
  GetCallerIdentityCommand,
  STSClient,
} from "@aws-sdk/client-sts";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import { arn, attempt, denied, endpoint, keys, region, role, token, version, webRole } from "./common.mjs";

version("@aws-sdk/client-sts");
const sts = (credentials = keys) => new STSClient({ endpoint, region, credentials });
const assume = (RoleArn) => sts().send(new AssumeRoleCommand({ RoleArn, RoleSessionName: "sdk3" }));

await attempt("GetCallerIdentity", async () => arn((await sts().send(new GetCallerIdentityCommand({}))).Arn));
await attempt("AssumeRole", async () => {
  const { Credentials: c } = await assume(role);
  const session = { accessKeyId: c.AccessKeyId, secretAccessKey: c.SecretAccessKey, sessionToken: c.SessionToken };
  return arn((await sts(session).send(new GetCallerIdentityCommand({}))).Arn);
});
await attempt("AssumeRole, denied", () => assume(denied));
await attempt("AssumeRoleWithWebIdentity", async () => {
  const input = { RoleArn: webRole, RoleSessionName: "sdk3", WebIdentityToken: token };
  return arn((await sts().send(new AssumeRoleWithWebIdentityCommand(input))).AssumedRoleUser.Arn);
});
await attempt("iam:ListMFADevices", async () => {
  const iam = new IAMClient({ endpoint, region, credentials: keys });
  return Array.isArray((await iam.send(new ListMFADevicesCommand({ UserName: "alice" }))).MFADevices) ? "ok" : "none";
});
// The presigner is S3's, and its scope is S3's.
await attempt("GetCallerIdentity, presigned for S3", async () => {
  const url = await getSignedUrl(sts(), new GetCallerIdentityCommand({}), { expiresIn: 60 });
  const text = await (await fetch(url, { method: "POST" })).text();
  return text.includes("<Code>") ? text.split("<Code>")[1].split("<")[0] : arn(text);
});
