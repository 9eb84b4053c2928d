// The AWS SDK for JavaScript through a proxy, as in its documentation. Prints a JSON line: what each action gave.
import { readFileSync } from "node:fs";
import * as sdk from "@aws-sdk/client-s3";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

const { BUCKET: Bucket, ENDPOINT: endpoint, KEYS, LARGE } = process.env;
const client = new sdk.S3Client({ endpoint, forcePathStyle: true, region: "us-east-1", maxAttempts: 1 });
const result = {};
const attempt = async (name, action) => {
  try {
    result[name] = (await action()) ?? "ok";
  } catch (error) {
    result[name] = error.name ?? String(error);
  }
};
const send = (command, input) => client.send(new sdk[command]({ Bucket, ...input }));
const text = async (answer) => Buffer.from(await answer.Body.transformToByteArray()).toString("base64");
for (const Key of JSON.parse(KEYS)) {
  await attempt(`put ${Key}`, async () => void (await send("PutObjectCommand", { Key, Body: `body of ${Key}` })));
  await attempt(`get ${Key}`, async () => text(await send("GetObjectCommand", { Key })));
}
await attempt("large", async () => {
  const body = readFileSync(LARGE);
  const Key = "home/large";
  const { UploadId } = await send("CreateMultipartUploadCommand", { Key });
  const Parts = [];
  for (let at = 0; at < body.length; at += 5 << 20) {
    const PartNumber = Parts.length + 1;
    const { ETag } = await send("UploadPartCommand", { Key, UploadId, PartNumber, Body: body.subarray(at, at + (5 << 20)) });
    Parts.push({ PartNumber, ETag });
  }
  await send("CompleteMultipartUploadCommand", { Key, UploadId, MultipartUpload: { Parts } });
});
const [first] = JSON.parse(KEYS);
await attempt("range", async () => text(await send("GetObjectCommand", { Key: first, Range: "bytes=0-3" })));
await attempt("copy", async () => void (await send("CopyObjectCommand", { Key: "home/copy", CopySource: `${Bucket}/${encodeURI(first)}` })));
await attempt("list", async () => (await send("ListObjectsV2Command", { Prefix: "home/" })).Contents.map((o) => o.Key).sort());
await attempt("presigned get", async () => {
  const answer = await fetch(await getSignedUrl(client, new sdk.GetObjectCommand({ Bucket, Key: first })));
  return answer.ok ? Buffer.from(await answer.arrayBuffer()).toString("base64") : `status ${answer.status}`;
});
await attempt("presigned put", async () => {
  // By default, the checksum of an empty body is signed into the URL, and a store that checks it refuses every other.
  const plain = new sdk.S3Client({ endpoint, forcePathStyle: true, region: "us-east-1", requestChecksumCalculation: "WHEN_REQUIRED" });
  const url = await getSignedUrl(plain, new sdk.PutObjectCommand({ Bucket, Key: "home/by url" }));
  const answer = await fetch(url, { method: "PUT", body: "by url" });
  return answer.ok ? "ok" : `status ${answer.status}`;
});
await attempt("delete many", async () => {
  const { Errors } = await send("DeleteObjectsCommand", { Delete: { Objects: [{ Key: "home/gone 1" }, { Key: "home/gone+2" }] } });
  return Errors?.length ? Errors[0].Code : "ok";
});
await attempt("elsewhere", async () => void (await send("GetObjectCommand", { Key: "elsewhere/x" })));
console.log(JSON.stringify(result));
