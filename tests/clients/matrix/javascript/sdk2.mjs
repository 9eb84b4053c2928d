import AWS from "aws-sdk";
import { arn, attempt, denied, endpoint, keys, region, role, token, version, webRole } from "./common.mjs";

version("aws-sdk");
const sts = (credentials = keys) => new AWS.STS({ endpoint, region, ...credentials });
const assume = (RoleArn) => sts().assumeRole({ RoleArn, RoleSessionName: "sdk2" }).promise();

await attempt("GetCallerIdentity", async () => arn((await sts().getCallerIdentity().promise()).Arn));
await attempt("AssumeRole", async () => {
  const { Credentials: c } = await assume(role);
  const session = { accessKeyId: c.AccessKeyId, secretAccessKey: c.SecretAccessKey, sessionToken: c.SessionToken };
  return arn((await sts(session).getCallerIdentity().promise()).Arn);
});
await attempt("AssumeRole, denied", () => assume(denied));
await attempt("AssumeRoleWithWebIdentity", async () => {
  const input = { RoleArn: webRole, RoleSessionName: "sdk2", WebIdentityToken: token };
  return arn((await sts().assumeRoleWithWebIdentity(input).promise()).AssumedRoleUser.Arn);
});
await attempt("GetCallerIdentity, presigned", async () => {
  const request = sts().getCallerIdentity();
  const url = await new Promise((resolve, reject) => request.presign(60, (e, url) => (e ? reject(e) : resolve(url))));
  return arn(await (await fetch(url)).text());
});
await attempt("iam:ListMFADevices", async () => {
  const iam = new AWS.IAM({ endpoint, region, ...keys });
  return Array.isArray((await iam.listMFADevices({ UserName: "alice" }).promise()).MFADevices) ? "ok" : "none";
});
await attempt("cognito-identity:GetId", async () => {
  const cognito = new AWS.CognitoIdentity({ endpoint, region, ...keys });
  return await cognito.getId({ IdentityPoolId: "us-east-1:00000000-0000-0000-0000-000000000000" }).promise();
});
