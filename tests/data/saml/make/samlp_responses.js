// Responses by npm samlp. Usage: node samlp_responses.js KEYS OUT
const fs = require('fs');
const path = require('path');
const samlp = require('samlp');
const [keys, out] = process.argv.slice(2);
const prefix = 'https://aws.amazon.com/SAML/Attributes/';
const claims = {
  [prefix + 'Role']: ['arn:aws:iam::111122223333:role/Deploy,arn:aws:iam::111122223333:saml-provider/example'],
  [prefix + 'RoleSessionName']: 'bob@example.com',
  [prefix + 'PrincipalTag:Team']: 'red',
  'urn:example:text': 'a & <b> "c" \r\n é',
};
const groups = Array.from({ length: 666 }, (_, i) => `CN=group-${i},OU=Groups,DC=example,DC=com`);
class Mapper {
  constructor(more) { this.more = more; }
  getClaims() { return Object.assign({}, claims, this.more); }
  getNameIdentifier() { return { nameIdentifier: 'bob', nameIdentifierFormat: 'urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified' }; }
}
const common = {
  issuer: 'urn:example:samlp', cert: fs.readFileSync(path.join(keys, 'rsa2.crt'), 'utf8'), key: fs.readFileSync(path.join(keys, 'rsa2.key'), 'utf8'),
  audience: 'https://sts.example.com/saml/metadata', recipient: 'https://sts.example.com/saml/acs', destination: 'https://sts.example.com/saml/acs',
  signatureAlgorithm: 'rsa-sha256', digestAlgorithm: 'sha256', lifetimeInSeconds: 900, sessionIndex: '_session-1', profileMapper: () => new Mapper({}),
  getUserFromRequest: () => ({}), getPostURL: (a, b, r, cb) => cb(null, 'https://sts.example.com/saml/acs'),
};
function make(name, options) {
  const opts = Object.assign({}, common, options, { responseHandler: (response) => fs.writeFileSync(path.join(out, `samlp-${name}.xml`), response) });
  samlp.auth(opts)({ method: 'GET', query: {}, body: {} }, { send: console.error, set() {} }, (e) => { if (e) { console.error(e); process.exitCode = 1; } });
}
make('assertion', { signResponse: false });
make('response', { signResponse: true, signAssertion: false });
make('prefixed', { signResponse: false, signatureNamespacePrefix: 'ds' });
make('large', { signResponse: false, profileMapper: () => new Mapper({ groups }) });
samlp.metadata(Object.assign({}, common, { profileMapper: require('samlp/lib/claims/PassportProfileMapper'), redirectEndpointPath: '/sso', postEndpointPath: '/sso' }))(
  { headers: { host: 'idp.example.com' }, protocol: 'https', originalUrl: '' },
  { set() {}, send: (text) => fs.writeFileSync(path.join(out, 'samlp-metadata.xml'), text) });
