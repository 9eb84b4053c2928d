"""Encrypted assertions by xmlsec1, of the responses that are here already. Usage: encrypted_responses.py OUT

Makes OUT/encrypted/: the private key that they are encrypted for, and the responses. The signing key is OUT/rsa.key.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

OUT = pathlib.Path(sys.argv[1])
TO = OUT / "encrypted"
TO.mkdir(exist_ok=True)
DS, ENC, ENC11 = "http://www.w3.org/2000/09/xmldsig#", "http://www.w3.org/2001/04/xmlenc#", "http://www.w3.org/2009/xmlenc11#"
IDS = ["--id-attr:ID", "urn:oasis:names:tc:SAML:2.0:protocol:Response"]
KEY = TO / "sp.key"
work = tempfile.TemporaryDirectory()
WORK = pathlib.Path(work.name)
if not KEY.exists():
    subprocess.run(["openssl", "genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", KEY], check=True)
subprocess.run(["openssl", "pkey", "-in", KEY, "-pubout", "-out", WORK / "sp.pub"], check=True)


def parts(name):
    """What is around the assertion of a response, and the assertion, which needs no declarations of others."""
    xml = (OUT / f"{name}.xml").read_text()
    before, rest = xml.split("<Assertion ", 1)
    inner, after = rest.split("</Assertion>", 1)
    namespaces = 'xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    return before, f"<Assertion {namespaces} {inner}</Assertion>", after


def encrypt(assertion, content=ENC11 + "aes256-gcm", key=ENC + "rsa-oaep-mgf1p", session="aes-256", beside=False):
    copy = (
        f'<e:EncryptedKey xmlns:e="{ENC}"><e:EncryptionMethod Algorithm="{key}"/><e:CipherData><e:CipherValue/></e:CipherData>'
        "</e:EncryptedKey>"
    )
    template = (
        f'<e:EncryptedData xmlns:e="{ENC}" Type="{ENC}Element"><e:EncryptionMethod Algorithm="{content}"/>'
        f'<ds:KeyInfo xmlns:ds="{DS}">{copy}</ds:KeyInfo><e:CipherData><e:CipherValue/></e:CipherData></e:EncryptedData>'
    )
    (WORK / "assertion.xml").write_text(assertion)
    (WORK / "template.xml").write_text(template)
    command = ["xmlsec1", "--encrypt", "--pubkey-pem", WORK / "sp.pub", "--session-key", session]
    data = ["--xml-data", WORK / "assertion.xml", "--node-xpath", "/*"]
    done = subprocess.run([*command, *data, WORK / "template.xml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = re.sub(r"<\?xml.*?\?>\s*", "", done.stdout).strip()
    other = ""
    if beside:
        # SAML Core 2.0 section 6.1: the key may be beside what it decrypts.
        other = re.search(r"<e:EncryptedKey .*?</e:EncryptedKey>", made, re.DOTALL)[0]
        made = made.replace(other, f'<ds:RetrievalMethod Type="{ENC}EncryptedKey" URI="#_key"/>')
        other = other.replace("<e:EncryptedKey ", '<e:EncryptedKey Id="_key" ', 1)
    return f'<EncryptedAssertion xmlns="urn:oasis:names:tc:SAML:2.0:assertion">{made}{other}</EncryptedAssertion>'


def sign(xml):
    (WORK / "unsigned.xml").write_text(xml)
    done = subprocess.run(["xmlsec1", "--sign", "--privkey-pem", OUT / "rsa.key", *IDS, WORK / "unsigned.xml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write(name, before, inner, after):
    (TO / f"{name}.xml").write_text(before + inner + after)


before, assertion, after = parts("xmlsec-rsa-sha256")
write("aes128", before, encrypt(assertion, ENC11 + "aes128-gcm", session="aes-128"), after)
write("aes256", before, encrypt(assertion), after)
write("key-beside", before, encrypt(assertion, beside=True), after)
write("refused-cbc", before, encrypt(assertion, ENC + "aes256-cbc"), after)
write("refused-rsa-1_5", before, encrypt(assertion, key=ENC + "rsa-1_5"), after)
bare = re.sub(r"<ds:Signature.*?</ds:Signature>", "", assertion, flags=re.DOTALL)
write("unsigned", before, encrypt(bare), after)
# The response is signed, and the assertion in it is not.
before, assertion, after = parts("xmlsec-response")
template = re.sub(r"(<ds:(DigestValue|SignatureValue)>)[^<]*", r"\1", before)
template = re.sub(r"<ds:KeyInfo>.*?</ds:KeyInfo>", "", template, flags=re.DOTALL)
(TO / "response.xml").write_text(sign(template + encrypt(assertion) + after))
