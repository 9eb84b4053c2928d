// What every driver in JavaScript shares: its surroundings, and a line for each action that was tried.
import { readFileSync } from "node:fs";

const env = process.env;
export const endpoint = env.BREVET_ENDPOINT;
export const host = endpoint.split("://")[1];
export const region = env.AWS_REGION;
export const keys = { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY };
export const role = env.BREVET_ROLE;
export const denied = env.BREVET_DENIED_ROLE;
export const webRole = env.BREVET_WEB_ROLE;
export const token = env.BREVET_WEB_TOKEN;
export const body = "Action=GetCallerIdentity&Version=2011-06-15";

export function version(name) {
  const file = new URL(`./node_modules/${name}/package.json`, import.meta.url);
  console.log(`version\t${JSON.parse(readFileSync(file)).version}`);
}

// What the call returns, or why it failed; a client's own error is a result like any other.
export async function attempt(action, call) {
  let result;
  try {
    result = await call();
  } catch (error) {
    result = error.code ?? (error.name === "Error" ? error.message : error.name);
  }
  console.log(`${action}\t${String(result).replace(/\s+/g, " ").slice(0, 200)}`);
}

// `ok` if an answer names somebody.
export const arn = (text) => (String(text).includes("arn:aws:") ? "ok" : text);

export const field = (xml, name) => xml.split(`<${name}>`)[1].split(`</${name}>`)[0];
