// The AWS SDK for JavaScript v3, unmodified: a role, and who its session is.
import { AssumeRoleCommand, GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

const first = new STSClient({});
const { Credentials: c } = await first.send(
  new AssumeRoleCommand({ RoleArn: process.argv[2], RoleSessionName: "javascript" }),
);
const session = new STSClient({
  credentials: { accessKeyId: c.AccessKeyId, secretAccessKey: c.SecretAccessKey, sessionToken: c.SessionToken },
});
console.log((await session.send(new GetCallerIdentityCommand({}))).Arn);
try {
  await first.send(new AssumeRoleCommand({ RoleArn: process.argv[2] + "x", RoleSessionName: "javascript" }));
} catch (error) {
  console.log(error.name);
}
