// Two identity providers that we did not write: `node idp.mjs oidc-provider PORT`, `node idp.mjs mock PORT`. The first
// takes the redirect URI and the logout URI of a broker at which people sign in, as two more arguments.
const [kind, port] = [process.argv[2], Number(process.argv[3])];
const [redirect, logout] = process.argv.slice(4);
// One by its address, one by a name.
const issuer = `http://${kind === "mock" ? "localhost" : "127.0.0.1"}:${port}`;

if (kind === "oidc-provider") {
  const { default: Provider } = await import("oidc-provider");
  const { generateKeyPairSync } = await import("node:crypto");
  const key = (kid) => {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    return { ...privateKey.export({ format: "jwk" }), kid, use: "sig", alg: "ES256" };
  };
  let server;
  // A signing key by generation: the newest signs, all of them are published. GET /rotate makes another,
  // GET /retire leaves the newest alone.
  let keys = [key("generation-1")];
  const start = () => {
    const provider = new Provider(issuer, {
      clients: [
        {
          client_id: "brevet",
          client_secret: "a-client-secret",
          redirect_uris: ["http://127.0.0.1:9/callback", ...(redirect ? [redirect] : [])],
          ...(logout ? { backchannel_logout_uri: logout, backchannel_logout_session_required: true } : {}),
          grant_types: ["authorization_code"],
          response_types: ["code"],
          token_endpoint_auth_method: "client_secret_post",
          id_token_signed_response_alg: "ES256",
        },
      ],
      jwks: { keys },
      cookies: { keys: ["not-a-secret"] },
      pkce: { required: () => false },
      features: { devInteractions: { enabled: true }, backchannelLogout: { enabled: true } },
      findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    });
    provider.on("server_error", (_, error) => console.error(error));
    const callback = provider.callback();
    return (request, response) => {
      if (request.url === "/rotate") keys = [key(`generation-${keys.length + 1}`), ...keys];
      else if (request.url === "/retire") keys = keys.slice(0, 1);
      else return callback(request, response);
      handler = start();
      response.end("ok");
    };
  };
  const { createServer } = await import("node:http");
  let handler = start();
  server = createServer((request, response) => handler(request, response));
  server.listen(port, "127.0.0.1", () => console.log(issuer));
} else {
  const { OAuth2Server } = await import("oauth2-mock-server");
  const server = new OAuth2Server();
  await server.issuer.keys.generate("RS256");
  server.issuer.url = issuer;
  server.service.on("beforeTokenSigning", (token) => {
    token.payload.sub = "repo:octo/app:ref:refs/heads/main";
    token.payload.aud = "sts.amazonaws.com";
    token.payload.repository = "octo/app";
  });
  await server.start(port, "127.0.0.1");
  console.log(issuer);
}
