"""Responses of the shape that the makers of identity providers document, signed by xmlsec1.

Documented shape, not a live tenant: prefixes, where the signatures are, what the canonicalization lists, formats of names and
the attributes beside those for AWS are as the makers' pages and published examples have them.
"""

import datetime
import subprocess

ATTRIBUTE = "https://aws.amazon.com/SAML/Attributes/"
CLAIMS = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/"
MICROSOFT = "http://schemas.microsoft.com/"
PROTOCOL, ASSERTION = "urn:oasis:names:tc:SAML:2.0:protocol", "urn:oasis:names:tc:SAML:2.0:assertion"
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
XS, XSI = 'xmlns:xs="http://www.w3.org/2001/XMLSchema"', 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
DS, EXCLUSIVE = "http://www.w3.org/2000/09/xmldsig#", "http://www.w3.org/2001/10/xml-exc-c14n#"
EMAIL = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
UNSPECIFIED = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
BASIC, URI = (f"urn:oasis:names:tc:SAML:2.0:attrname-format:{form}" for form in ("basic", "uri"))
CLASS = "urn:oasis:names:tc:SAML:2.0:ac:classes:"


def at(minutes):
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03}Z"


def signature(of, prefix="ds:", inclusive="", key_name=False):
    """A signature to be made over the element with that ID."""
    p, xmlns = prefix, f'xmlns:{prefix[:-1]}="{DS}"' if prefix else f'xmlns="{DS}"'
    prefixes = f'<ec:InclusiveNamespaces xmlns:ec="{EXCLUSIVE}" PrefixList="{inclusive}"/>' if inclusive else ""
    name = f"<{p}KeyName>key-1</{p}KeyName>" if key_name else ""
    return (
        f'<{p}Signature {xmlns}><{p}SignedInfo><{p}CanonicalizationMethod Algorithm="{EXCLUSIVE}"/>'
        f'<{p}SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/><{p}Reference URI="#{of}">'
        f'<{p}Transforms><{p}Transform Algorithm="{DS}enveloped-signature"/><{p}Transform Algorithm="{EXCLUSIVE}">{prefixes}'
        f'</{p}Transform></{p}Transforms><{p}DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><{p}DigestValue/>'
        f"</{p}Reference></{p}SignedInfo><{p}SignatureValue/><{p}KeyInfo>{name}<{p}X509Data><{p}X509Certificate/></{p}X509Data>"
        f"</{p}KeyInfo></{p}Signature>"
    )


class Shape:
    """How a product writes a response: prefixes, signatures, and what else is in it."""

    def __init__(self, issuer, audience, recipient, ids):
        self.issuer, self.audience, self.recipient = issuer, audience, recipient
        self.response, self.assertion = ids

    # Prefixes with their colon, and the declarations on the response, the assertion and each value.
    p, s = "saml2p:", "saml2:"
    on_response, on_assertion, on_value, value_type = "", "", f"{XS} {XSI}", "xs:string"
    sign_response, sign_assertion = False, True
    signature_prefix, inclusive, key_name = "ds:", "", False
    name_format, name, name_more = EMAIL, "alice@example.com", ""
    attribute_format, attributes = None, {}
    destination, statement_last, context = True, False, "PasswordProtectedTransport"
    data_more, issuer_more, conditions_more = "", "", ""

    def xmlns(self, prefix, namespace):
        return f'xmlns:{prefix[:-1]}="{namespace}"' if prefix else f'xmlns="{namespace}"'

    def attribute(self, name, values):
        s = self.s
        name_format = f' NameFormat="{self.attribute_format}"' if self.attribute_format else ""
        kind = f' {self.on_value} xsi:type="{self.value_type}"' if self.value_type else ""
        values = "".join(f"<{s}AttributeValue{kind}>{value}</{s}AttributeValue>" for value in values)
        return f'<{s}Attribute Name="{name}"{name_format}>{values}</{s}Attribute>'

    def xml(self, aws):
        p, s = self.p, self.s
        sign = lambda of: signature(of, self.signature_prefix, self.inclusive, self.key_name)
        attributes = "".join(self.attribute(*each) for each in {**self.attributes, **aws}.items())
        attributes = f"<{s}AttributeStatement>{attributes}</{s}AttributeStatement>"
        authentication = (
            f'<{s}AuthnStatement AuthnInstant="{at(-1)}" SessionIndex="{self.assertion}"><{s}AuthnContext>'
            f"<{s}AuthnContextClassRef>{CLASS}{self.context}</{s}AuthnContextClassRef></{s}AuthnContext></{s}AuthnStatement>"
        )
        statements = attributes + authentication if self.statement_last else authentication + attributes
        destination = f' Destination="{self.recipient}"' if self.destination else ""
        # Where the prefix is none, the default namespace of the response is not that of the assertion.
        issuer = f'<{s}Issuer {self.xmlns(s, ASSERTION)}{self.issuer_more}>{self.issuer}</{s}Issuer>'
        return (
            f'<{p}Response {self.xmlns(p, PROTOCOL)}{self.on_response}{destination} ID="{self.response}" InResponseTo="id1" '
            f'IssueInstant="{at(0)}" Version="2.0">{issuer}{sign(self.response) if self.sign_response else ""}'
            f'<{p}Status><{p}StatusCode Value="{SUCCESS}"/></{p}Status>'
            f'<{s}Assertion {self.xmlns(s, ASSERTION)}{self.on_assertion} ID="{self.assertion}" IssueInstant="{at(0)}" '
            f'Version="2.0"><{s}Issuer{self.issuer_more}>{self.issuer}</{s}Issuer>'
            f'{sign(self.assertion) if self.sign_assertion else ""}'
            f'<{s}Subject><{s}NameID Format="{self.name_format}"{self.name_more}>{self.name}</{s}NameID>'
            f'<{s}SubjectConfirmation Method="{BEARER}"><{s}SubjectConfirmationData InResponseTo="id1" '
            f'NotOnOrAfter="{at(5)}" Recipient="{self.recipient}"{self.data_more}/></{s}SubjectConfirmation></{s}Subject>'
            f'<{s}Conditions NotBefore="{at(-5)}" NotOnOrAfter="{at(5)}"><{s}AudienceRestriction>'
            f"<{s}Audience>{self.audience}</{s}Audience></{s}AudienceRestriction>{self.conditions_more}</{s}Conditions>"
            f"{statements}</{s}Assertion></{p}Response>"
        )


class Entra(Shape):
    p, s, signature_prefix, value_type = "samlp:", "", "", None
    statement_last, context = True, "Password"
    attributes = {
        MICROSOFT + "identity/claims/tenantid": ["11111111-2222-3333-4444-555555555555"],
        MICROSOFT + "identity/claims/objectidentifier": ["f3a1c0de-0000-4000-8000-00000000beef"],
        MICROSOFT + "identity/claims/displayname": ["Alice Example"],
        MICROSOFT + "identity/claims/identityprovider": ["https://sts.windows.net/11111111-2222-3333-4444-555555555555/"],
        MICROSOFT + "claims/authnmethodsreferences": [CLASS + "Password", MICROSOFT + "claims/multipleauthn"],
        CLAIMS + "givenname": ["Alice"],
        CLAIMS + "surname": ["Example"],
        CLAIMS + "emailaddress": ["alice@example.com"],
        CLAIMS + "name": ["alice@example.com"],
    }


class Okta(Shape):
    on_response, on_assertion, on_value = f" {XS}", f" {XS}", XSI
    sign_response, inclusive, attribute_format = True, "xs", UNSPECIFIED.replace("nameid", "attrname").replace("1.1", "2.0")
    name_format, issuer_more = UNSPECIFIED, ' Format="urn:oasis:names:tc:SAML:2.0:nameid-format:entity"'


class Keycloak(Shape):
    p, s, signature_prefix, key_name = "samlp:", "saml:", "dsig:", True
    on_response, sign_response, sign_assertion = f' xmlns:saml="{ASSERTION}"', True, False
    name_format, name, attribute_format = PERSISTENT, "G-8d3f6a1e-2b0f-4d7c-9a57-1f5a0c2f7e11", BASIC
    attributes = {"Role": ["offline_access"]}


class Adfs(Shape):
    p, s, value_type, context = "samlp:", "", None, "PasswordProtectedTransport"
    on_response, statement_last = ' Consent="urn:oasis:names:tc:SAML:2.0:consent:unspecified"', True
    name_format, name = PERSISTENT, "EXAMPLE\\alice"
    attributes = {CLAIMS + "upn": ["alice@example.com"]}


class Google(Shape):
    on_value, value_type, context = f"{XS} {XSI}", "xs:anyType", "unspecified"
    attributes = {"groups": ["engineering@example.com", "everyone@example.com"]}


class JumpCloud(Shape):
    inclusive, name_format, attribute_format = "xs", UNSPECIFIED, BASIC
    on_assertion, on_value = f" {XS}", XSI
    attributes = {"memberOf": ["engineering"]}


class Shibboleth(Shape):
    on_assertion, on_value, value_type = f' {XS.replace("xs=", "xsd=")}', XSI, "xsd:string"
    sign_response, sign_assertion, inclusive, attribute_format = True, False, "xsd", URI
    name_format, name = TRANSIENT, "AAdzZWNyZXQxKq3m2bY9c0QWZk3vH1tZ8w"
    name_more = ' NameQualifier="https://idp.example.edu/idp/shibboleth" SPNameQualifier="https://sts.example.com/saml/metadata"'
    data_more = ' Address="192.0.2.7"'
    attributes = {
        "urn:oid:1.3.6.1.4.1.5923.1.1.1.1": ["member", "staff"],
        "urn:oid:0.9.2342.19200300.100.1.3": ["alice@example.edu"],
        "urn:oid:1.3.6.1.4.1.5923.1.1.1.6": ["alice@example.edu"],
    }


SHAPES = {
    "entra": Entra,
    "okta": Okta,
    "keycloak": Keycloak,
    "adfs": Adfs,
    "google": Google,
    "jumpcloud": JumpCloud,
    "shibboleth": Shibboleth,
}


def sign(xml, key, certificate, folder):
    """The document with its signatures made, from the inside out."""
    path = folder / "unsigned.xml"
    ids = ["--id-attr:ID", f"{ASSERTION}:Assertion", "--id-attr:ID", f"{PROTOCOL}:Response"]
    for number in range(xml.count("Signature xmlns"), 0, -1):
        path.write_text(xml)
        one = f"(//*[local-name()='Signature' and namespace-uri()='{DS}'])[{number}]"
        command = ["xmlsec1", "--sign", "--privkey-pem", f"{key},{certificate}", *ids, "--node-xpath", one, str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        xml = done.stdout
    return xml


def encrypt(xml, certificate, folder):
    """The response with its assertion encrypted, as Shibboleth and OpenSAML do it."""
    start, end = xml.index("<saml2:Assertion"), xml.index("</saml2:Assertion>") + len("</saml2:Assertion>")
    xenc, gcm = "http://www.w3.org/2001/04/xmlenc#", "http://www.w3.org/2009/xmlenc11#aes128-gcm"
    template = (
        f'<xenc:EncryptedData xmlns:xenc="{xenc}" Id="_encrypted" Type="{xenc}Element"><xenc:EncryptionMethod Algorithm="{gcm}"/>'
        f'<ds:KeyInfo xmlns:ds="{DS}"><xenc:EncryptedKey Id="_key"><xenc:EncryptionMethod Algorithm="{xenc}rsa-oaep-mgf1p">'
        f'<ds:DigestMethod Algorithm="{DS}sha1"/></xenc:EncryptionMethod><xenc:CipherData><xenc:CipherValue/></xenc:CipherData>'
        "</xenc:EncryptedKey></ds:KeyInfo><xenc:CipherData><xenc:CipherValue/></xenc:CipherData></xenc:EncryptedData>"
    )
    (folder / "assertion.xml").write_text(xml[start:end])
    (folder / "template.xml").write_text(template)
    data = ["--xml-data", str(folder / "assertion.xml"), "--node-xpath", "/*", str(folder / "template.xml")]
    command = ["xmlsec1", "--encrypt", "--pubkey-cert-pem", str(certificate), "--session-key", "aes-128", *data]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = done.stdout[done.stdout.index("<xenc:") :].strip()
    return f"{xml[:start]}<saml2:EncryptedAssertion xmlns:saml2=\"{ASSERTION}\">{made}</saml2:EncryptedAssertion>{xml[end:]}"
