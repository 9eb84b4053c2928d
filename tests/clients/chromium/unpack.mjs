// Unpacks the Chromium of @sparticuz/chromium into a folder: node unpack.mjs FOLDER
import { execFileSync } from "node:child_process";
import { chmodSync, createReadStream, createWriteStream, mkdirSync } from "node:fs";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";

const packed = new URL("node_modules/@sparticuz/chromium/bin/", import.meta.url);
const folder = process.argv[2];
mkdirSync(folder, { recursive: true });
const unpack = (name) =>
  pipeline(
    createReadStream(new URL(`${name}.br`, packed)),
    createBrotliDecompress(),
    createWriteStream(`${folder}/${name}`),
  );

await unpack("swiftshader.tar");
execFileSync("tar", ["-xf", "swiftshader.tar"], { cwd: folder });
await unpack("chromium");
chmodSync(`${folder}/chromium`, 0o755);
