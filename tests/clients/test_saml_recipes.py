"""The SAML examples in config/federation, each with a response of the shape that the product's maker documents.

Documented shape, not a live tenant. As it is, into a store that knows nothing of it; but for the certificate, whose key
nobody has.
"""

import base64
import json
import re
import subprocess
from pathlib import Path

import pytest
from conftest import BREVET
from saml_shapes import ATTRIBUTE, SHAPES, encrypt, sign
from test_boto3 import refused
from test_saml import Broker, make_key

FEDERATION = Path(__file__).parents[2] / "config/federation"
AUDIENCE, RECIPIENT = "https://broker.example.com/saml/metadata", "https://broker.example.com/saml/acs"


class Recipe:
    def __init__(self, name, folder):
        self.folder = folder / name
        self.folder.mkdir()
        self.key, self.certificate = make_key(self.folder, name)
        self.directory = json.loads((FEDERATION / f"{name}-saml.json").read_text())
        text = "".join(self.certificate.read_text().split("-----")[2].split())
        provider = self.directory["Brevet"]["SAMLProviders"][0]
        element = r"(X509Certificate>)[^<]+"
        metadata, count = re.subn(element, rf"\g<1>{text}", provider["SAMLMetadataDocument"])
        assert count
        provider["SAMLMetadataDocument"] = metadata
        (self.folder / "metadata.xml").write_text(metadata)
        self.entity_id = re.search(r'entityID="([^"]+)"', metadata)[1]
        self.provider, self.role = provider["Arn"], self.directory["RoleDetailList"][0]["Arn"]
        self.shape, self.made = SHAPES[name], 0

    def response(self, change=None, aws=None, **more):
        self.made += 1
        names = {"audience": AUDIENCE, "recipient": RECIPIENT, **more}
        shape = self.shape(self.entity_id, **names, ids=(f"_r{self.made}", f"_a{self.made}"))
        claims = {
            ATTRIBUTE + "Role": [f"{self.role},{self.provider}"],
            ATTRIBUTE + "RoleSessionName": ["alice@example.com"],
            ATTRIBUTE + "SessionDuration": ["3600"],
        }
        xml = shape.xml({**claims, **(aws or {})})
        xml = sign(change(xml) if change else xml, self.key, self.certificate, self.folder)
        return base64.b64encode(xml.encode()).decode()


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    return {name: Recipe(name, folder) for name in SHAPES}


@pytest.fixture(scope="module")
def broker(recipes, tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("saml") / "home", AUDIENCE, RECIPIENT)
    for recipe in recipes.values():
        broker.bring_in(recipe.directory)
        broker.eventually(lambda: assume(broker, recipe, recipe.response()))
    yield broker
    broker.stop()


def assume(broker, recipe, response):
    return broker.sts().assume_role_with_saml(RoleArn=recipe.role, PrincipalArn=recipe.provider, SAMLAssertion=response)


def test_every_example_has_a_shape():
    assert sorted(path.name for path in FEDERATION.glob("*-saml.json")) == sorted(f"{name}-saml.json" for name in SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_an_operator_sees_that_the_response_is_good(recipes, name):
    recipe = recipes[name]
    (recipe.folder / "response").write_text(recipe.response())
    arns = ["--role-arn", recipe.role, "--provider-arn", recipe.provider]
    here = ["--audience", AUDIENCE, "--recipient", RECIPIENT]
    files = ["--metadata", str(recipe.folder / "metadata.xml"), str(recipe.folder / "response")]
    done = subprocess.run([BREVET, "saml", "inspect", *files, *here, *arns], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("accepted\n"), done.stdout + done.stderr


@pytest.mark.parametrize("name", SHAPES)
def test_an_example_admits_whom_it_names(broker, recipes, name):
    recipe = recipes[name]
    answer = assume(broker, recipe, recipe.response())
    assert answer["Issuer"] == recipe.entity_id and answer["Audience"] == RECIPIENT
    who = broker.sts(answer["Credentials"]).get_caller_identity()
    assert who["Arn"].endswith(f":assumed-role/{recipe.role.rsplit('/')[-1]}/alice@example.com")


@pytest.mark.parametrize("name", SHAPES)
def test_an_example_refuses_others(broker, recipes, name):
    recipe = recipes[name]
    code = lambda response: refused(lambda: assume(broker, recipe, response))[0]
    for change, expected in [
        # Made for AWS, for the same company's other service, by another tenant.
        ({"audience": "urn:amazon:webservices", "recipient": "https://signin.aws.amazon.com/saml"}, "InvalidIdentityToken"),
        ({"audience": "https://other.example.com"}, "InvalidIdentityToken"),
        ({"change": lambda xml: xml.replace(recipe.entity_id, recipe.entity_id + "x")}, "InvalidIdentityToken"),
        ({"aws": {ATTRIBUTE + "Role": [f"{recipe.role}x,{recipe.provider}"]}}, "AccessDenied"),
        ({"aws": {ATTRIBUTE + "Role": [f"{recipe.role},{recipe.provider}x"]}}, "AccessDenied"),
        # Whom the condition does not name.
        (
            {
                "change": lambda xml: xml.replace("alice@example.com", "alice@evil.example")
                .replace("nameid-format:persistent", "nameid-format:transient")
                .replace(">staff<", ">student<")
            },
            "AccessDenied",
        ),
    ]:
        assert code(recipe.response(**change)) == expected, change
    again = recipe.response()
    assume(broker, recipe, again)
    assert code(again) == "IDPRejectedClaim"


def test_an_encrypted_assertion_is_good_for_whom_it_is_encrypted(broker, recipes):
    """As Shibboleth does it: the response is signed around what is encrypted."""
    recipe = recipes["shibboleth"]
    keys = {name: make_key(recipe.folder, name) for name in ("declared", "other")}
    sent = lambda name: recipe.response(lambda xml: encrypt(xml, keys[name][1], recipe.folder))
    code = lambda name: refused(lambda: assume(broker, recipe, sent(name)))[0]
    assert code("declared") == "InvalidIdentityToken", "nobody has a key yet"
    provider = recipe.directory["Brevet"]["SAMLProviders"][0]
    broker.bring_in({"Brevet": {"SAMLProviders": [{**provider, "PrivateKeys": keys["declared"][0].read_text()}]}})
    answer = broker.eventually(lambda: assume(broker, recipe, sent("declared")))
    assert answer["SubjectType"] == "transient"
    assert code("other") == "InvalidIdentityToken"
    assert assume(broker, recipe, recipe.response())["SubjectType"] == "transient", "in the clear, still"
