// A SAML identity provider that we did not write, npm samlp: `node saml_idp.mjs PORT KEY CERTIFICATE ENTITY_ID ACS [ROLE...]`.
// GET /metadata is its metadata; GET /sso signs the user in at once and answers with the form for the browser.
// In the query of /sso: SAMLRequest and RelayState of a request, which is answered; user, role (a value of the Role attribute, several times), sign (assertion, response, both),
// audience.
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import samlp from "samlp";

const [port, key, certificate, audience, recipient, ...roles] = process.argv.slice(2);
const prefix = "https://aws.amazon.com/SAML/Attributes/";
const issuer = `http://127.0.0.1:${port}/metadata`;
const common = { issuer, key: readFileSync(key, "utf8"), cert: readFileSync(certificate, "utf8") };

class User {
  constructor(query) {
    this.query = query;
  }
  name() {
    return this.query.get("user") ?? "alice";
  }
  getClaims() {
    return {
      [prefix + "Role"]: this.query.has("role") ? this.query.getAll("role") : roles,
      [prefix + "RoleSessionName"]: `${this.name()}@example.com`,
      [prefix + "PrincipalTag:Team"]: "red",
    };
  }
  getNameIdentifier() {
    return {
      nameIdentifier: this.name(),
      nameIdentifierFormat: "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
    };
  }
}
User.prototype.metadata = [];

createServer((request, response) => {
  const url = new URL(request.url, issuer);
  // What samlp asks of express.
  const asked = { method: "GET", query: {}, body: {}, headers: request.headers, protocol: "http", originalUrl: request.url, user: {} };
  const answer = {
    set: (name, value) => response.setHeader(name, value),
    send: (text) => response.end(text),
    render: () => response.end(),
  };
  const failed = (error) => {
    response.statusCode = 500;
    response.end(String(error));
  };
  if (url.pathname === "/metadata") {
    User.prototype.metadata = [];
    const metadata = { ...common, profileMapper: User, redirectEndpointPath: "/sso", postEndpointPath: "/sso" };
    return samlp.metadata(metadata)(asked, answer);
  }
  const sign = url.searchParams.get("sign") ?? "assertion";
  const relayState = url.searchParams.get("RelayState");
  const samlRequest = url.searchParams.get("SAMLRequest");
  if (samlRequest !== null) asked.query = { SAMLRequest: samlRequest, RelayState: relayState };
  samlp.auth({
    ...common,
    audience: url.searchParams.get("audience") ?? audience,
    recipient,
    destination: recipient,
    signatureAlgorithm: "rsa-sha256",
    digestAlgorithm: "sha256",
    lifetimeInSeconds: 300,
    signResponse: sign !== "assertion",
    signAssertion: sign !== "response",
    ...(relayState === null ? {} : { RelayState: relayState }),
    getUserFromRequest: () => ({}),
    profileMapper: () => new User(url.searchParams),
    getPostURL: (_audience, _document, _request, callback) => callback(null, recipient),
  })(asked, answer, failed);
}).listen(Number(port), "127.0.0.1", () => console.log(issuer));
