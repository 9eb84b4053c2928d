// Signers without a service behind them, one by its name.
import { arn, attempt, body, endpoint, field, host, keys, region, role, version } from "./common.mjs";

const which = process.argv[2];
version(which);
const form = { "content-type": "application/x-www-form-urlencoded" };

const senders = {
  async aws4fetch() {
    const { AwsClient } = await import("aws4fetch");
    return {
      post: async (body, k) => (await new AwsClient({ ...k, service: "sts", region }).fetch(endpoint + "/", { method: "POST", headers: form, body })).text(),
      presign: async () => (await new AwsClient({ ...keys, service: "sts", region }).sign(`${endpoint}/?${body}`, { aws: { signQuery: true } })).url,
    };
  },
  async aws4() {
    const { default: aws4 } = await import("aws4");
    const sign = (request, k) => aws4.sign({ host, region, service: "sts", path: "/", ...request }, k);
    return {
      post: async (body, k) => {
        const { headers } = sign({ method: "POST", body, headers: { ...form } }, k);
        return (await fetch(endpoint + "/", { method: "POST", headers, body })).text();
      },
      presign: async () => endpoint + sign({ method: "GET", path: `/?${body}`, signQuery: true }, keys).path,
    };
  },
  async "@smithy/signature-v4"() {
    const { SignatureV4 } = await import("@smithy/signature-v4");
    const { HttpRequest } = await import("@smithy/protocol-http");
    const { Sha256 } = await import("@aws-crypto/sha256-js");
    const [hostname, port] = host.split(":");
    const target = { protocol: "http:", hostname, port: Number(port), path: "/" };
    const signer = (credentials) => new SignatureV4({ credentials, region, service: "sts", sha256: Sha256 });
    return {
      post: async (body, k) => {
        const request = new HttpRequest({ ...target, method: "POST", headers: { host, ...form }, body });
        const { headers } = await signer(k).sign(request);
        return (await fetch(endpoint + "/", { method: "POST", headers, body })).text();
      },
      presign: async () => {
        const query = Object.fromEntries(new URLSearchParams(body));
        const headers = { host, "x-amz-user-agent": "smithy" };
        const signed = await signer(keys).presign(new HttpRequest({ ...target, method: "GET", headers, query }), { expiresIn: 60 });
        return `${endpoint}/?${new URLSearchParams(signed.query)}`;
      },
    };
  },
};

const { post, presign } = await senders[which]();
await attempt("GetCallerIdentity", async () => arn(await post(body, keys)));
await attempt("AssumeRole", async () => {
  const parameters = { Action: "AssumeRole", Version: "2011-06-15", RoleArn: role, RoleSessionName: "signer" };
  const answer = await post(new URLSearchParams(parameters).toString(), keys);
  const session = {
    accessKeyId: field(answer, "AccessKeyId"),
    secretAccessKey: field(answer, "SecretAccessKey"),
    sessionToken: field(answer, "SessionToken"),
  };
  return arn(await post(body, session));
});
await attempt("GetCallerIdentity, presigned", async () => arn(await (await fetch(await presign())).text()));
