"""Responses signed by xmlsec1, with every algorithm that is accepted and many that are not.

Usage: xmlsec_responses.py KEYS OUT
"""

import base64
import datetime
import pathlib
import subprocess
import sys
import tempfile

KEYS, OUT = map(pathlib.Path, sys.argv[1:3])
NOW = datetime.datetime.now(datetime.timezone.utc)
DS = "http://www.w3.org/2000/09/xmldsig#"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"
ENC = "http://www.w3.org/2001/04/xmlenc#"
EXC = "http://www.w3.org/2001/10/xml-exc-c14n#"
INC = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
ENVELOPED = f'<ds:Transform Algorithm="{DS}enveloped-signature"/>'
A = "https://aws.amazon.com/SAML/Attributes/"


def instant(minutes):
    return (NOW + datetime.timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def c14n(name, prefixes, algorithm=EXC):
    if prefixes is None:
        return f'<ds:{name} Algorithm="{algorithm}"/>'
    return f'<ds:{name} Algorithm="{algorithm}"><ec:InclusiveNamespaces xmlns:ec="{EXC}" PrefixList="{prefixes}"/></ds:{name}>'


def signature(id, method, digest, prefixes=None, algorithm=EXC, transforms=None, references=1, uri=None, object=""):
    transforms = transforms or ENVELOPED + c14n("Transform", prefixes, algorithm)
    reference = f'<ds:Reference URI="{"#" + id if uri is None else uri}"><ds:Transforms>{transforms}</ds:Transforms><ds:DigestMethod Algorithm="{digest}"/><ds:DigestValue/></ds:Reference>'
    return (
        f'<ds:Signature xmlns:ds="{DS}"><ds:SignedInfo>{c14n("CanonicalizationMethod", prefixes, algorithm)}<ds:SignatureMethod Algorithm="{method}"/>'
        f"{reference * references}</ds:SignedInfo><ds:SignatureValue/><ds:KeyInfo><ds:KeyName/><ds:X509Data/></ds:KeyInfo>{object}</ds:Signature>"
    )


def assertion(sig):
    return f"""
  <Assertion xmlns="urn:oasis:names:tc:SAML:2.0:assertion" ID="_assertion" Version="2.0" IssueInstant="{instant(0)}">
    <Issuer>https://idp.example.com/{'x' * 3}</Issuer>{sig}
    <Subject><!-- who -->
      <NameID Format="urn:oasis:names:tc:SAML:2.0:nameid-format:transient">car<!-- between -->ol</NameID>
      <SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">
        <SubjectConfirmationData NotOnOrAfter="{instant(5)}" Recipient="https://sts.example.com/saml/acs"/>
      </SubjectConfirmation>
    </Subject>
    <Conditions NotBefore="{instant(-5)}" NotOnOrAfter="{instant(60)}">
      <AudienceRestriction><Audience>https://other.example.com</Audience><Audience>https://sts.example.com/saml/metadata</Audience></AudienceRestriction>
    </Conditions>
    <AuthnStatement AuthnInstant="{instant(-1)}" SessionNotOnOrAfter="{instant(480)}"><AuthnContext><AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:X509</AuthnContextClassRef></AuthnContext></AuthnStatement>
    <AttributeStatement>
      <Attribute   Name='{A}Role'><AttributeValue xsi:type="xs:string">arn:aws:iam::111122223333:saml-provider/example , arn:aws:iam::111122223333:role/Deploy</AttributeValue></Attribute>
      <Attribute Name="{A}RoleSessionName" FriendlyName="&quot;a&#9;b&#10;c&#13;&lt;&gt;&amp;'"><AttributeValue xml:lang="en"><![CDATA[carol]]></AttributeValue></Attribute>
      <Attribute Name="text"><AttributeValue>a&#13;&gt;&amp; " ' <![CDATA[<b>]]></AttributeValue></Attribute>
      <Attribute Name="structured"><AttributeValue><x:y xmlns:x="urn:x" b="2" a="1" x:a="3"/></AttributeValue></Attribute>
    </AttributeStatement>
  </Assertion>"""


def response(outer, inner, tail=""):
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!-- a response -->
<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:unused="urn:unused" ID="_response" Version="2.0" IssueInstant="{instant(0)}">
  <Issuer xmlns="urn:oasis:names:tc:SAML:2.0:assertion">https://idp.example.com/xxx</Issuer>{outer}
  <samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>{assertion(inner)}{tail}
</samlp:Response>
"""


def write(name, xml, key="rsa", extra=()):
    private = ["--hmackey", str(KEYS / "hmac.key")] if key == "hmac" else ["--privkey-pem", f"{KEYS / key}.key,{KEYS / key}.crt"]
    ids = ["--id-attr:ID", "urn:oasis:names:tc:SAML:2.0:assertion:Assertion", "--id-attr:ID", "urn:oasis:names:tc:SAML:2.0:protocol:Response"]
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(xml)
        file.flush()
        # Several signatures are made from the inside out: xmlsec1 makes the first that it finds.
        result = subprocess.run(["xmlsec1", "--sign", *private, *ids, *extra, file.name], capture_output=True)
    assert result.returncode == 0, (name, result.stderr.decode())
    (OUT / f"{name}.xml").write_bytes(result.stdout)


RSA, ECDSA = MORE + "rsa-sha", MORE + "ecdsa-sha"
SHA = {256: ENC + "sha256", 384: MORE + "sha384", 512: ENC + "sha512"}
(KEYS / "hmac.key").write_bytes(b"not a secret: for tests")
good = lambda method, bits, **more: response("", signature("_assertion", method, SHA[bits], **more))
for bits in SHA:
    write(f"xmlsec-rsa-sha{bits}", good(RSA + str(bits), bits))
for key in ["p256", "p384"]:
    for bits in [256, 384]:
        write(f"xmlsec-{key}-sha{bits}", good(ECDSA + str(bits), bits), key)
write("xmlsec-p384-sha512", good(ECDSA + "512", 512), "p384")
write("xmlsec-prefix-list", good(RSA + "256", 256, prefixes="xs #default unused nowhere"))
write("xmlsec-with-comments", good(RSA + "256", 256, algorithm=EXC + "WithComments"))
write("xmlsec-response", response(signature("_response", RSA + "256", SHA[256], prefixes="xs"), ""))

r256 = RSA + "256"
bad = {
    "rsa-sha1": good(DS + "rsa-sha1", 256),
    "digest-sha1": response("", signature("_assertion", r256, DS + "sha1")),
    "hmac": (good(MORE + "hmac-sha256", 256), "hmac"),
    "rsa-1024": (good(r256, 256), "rsa1024"),
    "other-key": (good(r256, 256), "rsa2"),
    "inclusive": good(r256, 256, algorithm=INC),
    "only-enveloped": good(r256, 256, transforms=ENVELOPED),
    "xpath": good(r256, 256, transforms=ENVELOPED + f'<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116"><ds:XPath>not(ancestor-or-self::ds:Signature)</ds:XPath></ds:Transform>'),
    "three-transforms": good(r256, 256, transforms=ENVELOPED + c14n("Transform", None) + c14n("Transform", None)),
    "two-references": good(r256, 256, references=2),
    "uri-empty": good(r256, 256, uri=""),
    "uri-xpointer": good(r256, 256, uri="#xpointer(id('_assertion'))"),
    "uri-of-response": good(r256, 256, uri="#_response"),
    "object": good(r256, 256, object="<ds:Object>text</ds:Object>"),
    "in-extensions": response("", "", "").replace("<samlp:Status>", f"<samlp:Extensions>{signature('_assertion', r256, SHA[256], transforms=c14n('Transform', None))}</samlp:Extensions><samlp:Status>", 1),
}
(OUT / "refused").mkdir(exist_ok=True)
for name, case in bad.items():
    xml, key = case if isinstance(case, tuple) else (case, "rsa")
    write(f"refused/{name}", xml, key)


def certificate(key):
    return "".join((KEYS / f"{key}.crt").read_text().split("-----")[2].split())


def descriptor(key, use=' use="signing"'):
    return f'<KeyDescriptor{use}><KeyInfo xmlns="{DS}"><X509Data><X509Certificate>{certificate(key)}</X509Certificate></X509Data></KeyInfo></KeyDescriptor>'


def metadata(keys):
    return (
        '<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="https://idp.example.com/xxx"><IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">'
        + keys
        + '<SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="https://idp.example.com/sso"/></IDPSSODescriptor></EntityDescriptor>\n'
    )


(OUT / "xmlsec-metadata.xml").write_text(metadata(descriptor("p256") + descriptor("rsa", "") + descriptor("p384") + descriptor("rsa1024") + descriptor("rsa2", ' use="encryption"')))
(OUT / "now").write_text(NOW.strftime("%Y%m%dT%H%M%SZ"))
