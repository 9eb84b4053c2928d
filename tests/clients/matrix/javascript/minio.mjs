import { AssumeRoleProvider } from "minio/dist/esm/AssumeRoleProvider.mjs";
import { attempt, denied, endpoint, keys, region, role, version } from "./common.mjs";

version("minio");
const assume = (roleArn) => async () => {
  const provider = new AssumeRoleProvider({
    stsEndpoint: endpoint,
    accessKey: keys.accessKeyId,
    secretKey: keys.secretAccessKey,
    roleArn,
    roleSessionName: "minio",
    durationSeconds: 3600,
    region,
    action: "AssumeRole",
  });
  return (await provider.getCredentials()).getAccessKey().startsWith("ASIA") ? "ok" : "no session";
};
await attempt("AssumeRole", assume(role));
await attempt("AssumeRole, denied", assume(denied));
