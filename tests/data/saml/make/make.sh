#!/bin/sh
# Makes the responses and metadata of this directory anew, with new keys. Needs xmlsec1, node, npm and
# Python, and gets pysaml2 and samlp from their registries.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$(dirname "$here")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip -q install pysaml2==7.5.5
npm install --silent --ignore-scripts samlp@8.0.0
venv/bin/python "$here/certificates.py" .
cp "$here/samlp_responses.js" .
venv/bin/python "$here/pysaml2_responses.py" . "$out"
node samlp_responses.js . "$out"
venv/bin/python "$here/xmlsec_responses.py" . "$out"
# With it the tests sign what no identity provider would.
cp rsa.key "$out/rsa.key"
venv/bin/python "$here/c14n_documents.py" 300 1 > "$out/c14n.json"
rm -f "$out/encrypted/sp.key"
venv/bin/python "$here/encrypted_responses.py" "$out"
