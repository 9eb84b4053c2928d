// Workload identity federation: the client signs the request that Google's token service then makes.
import { AwsRequestSigner } from "google-auth-library/build/src/auth/awsrequestsigner.js";
import http from "node:http";
import { arn, attempt, body, endpoint, keys, region, version } from "./common.mjs";

version("google-auth-library");
await attempt("GetCallerIdentity, replayed", async () => {
  const signer = new AwsRequestSigner(async () => keys, region);
  // The client takes the scope's service from the first part of the host's name.
  const url = `https://sts.${region}.example.com?${body}`;
  const { headers } = await signer.getRequestOptions({ url, method: "POST", headers: { "x-goog-cloud-target-resource": "//iam" } });
  const sent = headers instanceof Headers ? Object.fromEntries(headers) : headers;
  // fetch does not send another host.
  return await new Promise((resolve, reject) => {
    const request = http.request(`${endpoint}/?${body}`, { method: "POST", headers: { ...sent, "content-length": 0 } }, (answer) => {
      let text = "";
      answer.on("data", (part) => (text += part));
      answer.on("end", () => resolve(arn(text)));
    });
    request.on("error", reject);
    request.end();
  });
});
