"""Responses and metadata by pysaml2, signed by xmlsec1. Usage: pysaml2_responses.py KEYS OUT"""
import sys, base64, pathlib
from saml2.config import IdPConfig
from saml2.server import Server
from saml2.metadata import entity_descriptor
from saml2.saml import NameID, NAMEID_FORMAT_PERSISTENT, NAME_FORMAT_URI
from saml2.xmldsig import SIG_RSA_SHA256, SIG_RSA_SHA512, DIGEST_SHA256, DIGEST_SHA512
keys, out = map(pathlib.Path, sys.argv[1:3])
ACS = "https://sts.example.com/saml/acs"; SP = "https://sts.example.com/saml/metadata"
sp_md = f'''<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="{SP}"><SPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol"><AssertionConsumerService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="{ACS}" index="0"/></SPSSODescriptor></EntityDescriptor>'''
(keys / "sp.xml").write_text(sp_md)
conf = {
    "entityid": "https://idp.example.com/metadata", "xmlsec_binary": "/usr/bin/xmlsec1",
    "key_file": str(keys / "rsa.key"), "cert_file": str(keys / "rsa.crt"),
    "service": {"idp": {"name": "Example IdP", "endpoints": {"single_sign_on_service": [
        ("https://idp.example.com/sso/redirect", "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"),
        ("https://idp.example.com/sso/post", "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST")]},
        "policy": {"default": {"lifetime": {"minutes": 15}, "attribute_restrictions": None, "name_form": NAME_FORMAT_URI}}}},
    "metadata": {"local": [str(keys / "sp.xml")]},
}
class Plain:  # attribute names as they are
    pass
idp = Server(config=IdPConfig().load(conf))
(out / "pysaml2-metadata.xml").write_text(str(entity_descriptor(idp.config)))
A = "https://aws.amazon.com/SAML/Attributes/"
identity = {
    A + "Role": ["arn:aws:iam::111122223333:role/Deploy,arn:aws:iam::111122223333:saml-provider/example",
                 "arn:aws:iam::111122223333:saml-provider/example,arn:aws:iam::111122223333:role/Audit"],
    A + "RoleSessionName": ["alice@example.com"], A + "SessionDuration": ["3600"],
    A + "PrincipalTag:Team": ["blue"], A + "PrincipalTag:Site": ["Zürich"], A + "TransitiveTagKeys": ["Team"],
    A + "SourceIdentity": ["alice"], "eduPersonAffiliation": ["staff", "member"], "mail": ["alice@example.com"],
}
from saml2.attribute_converter import AttributeConverter
import saml2.attribute_converter as ac
for name, sign_response, sign_assertion, sig, dig in [
    ("assertion", False, True, SIG_RSA_SHA256, DIGEST_SHA256), ("response", True, False, SIG_RSA_SHA256, DIGEST_SHA256),
    ("both", True, True, SIG_RSA_SHA512, DIGEST_SHA512)]:
    r = idp.create_authn_response(identity=identity, in_response_to="id-request-1", destination=ACS, sp_entity_id=SP,
        name_id=NameID(format=NAMEID_FORMAT_PERSISTENT, text="alice-7f3a", sp_name_qualifier=SP, name_qualifier="https://idp.example.com/metadata"),
        authn={"class_ref": "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport", "authn_auth": "https://idp.example.com/metadata"},
        sign_response=sign_response, sign_assertion=sign_assertion, sign_alg=sig, digest_alg=dig)
    (out / f"pysaml2-{name}.xml").write_text(str(r))
