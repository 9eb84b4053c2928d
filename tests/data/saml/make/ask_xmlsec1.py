"""Asks xmlsec1 about responses that the test `sa_07_no_mutation_is_accepted_as_anybody_else` kept.

Usage: BREVET_SAML_KEEP=DIR cargo test --lib sa_07_no_mutation; ask_xmlsec1.py DIR

Whatever was accepted must be good to xmlsec1 too. Of what was refused it may accept some, since fewer
algorithms and forms are accepted than it knows, and since it knows no rules of SAML; these are counted.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

DATA = pathlib.Path(__file__).resolve().parent.parent
DIR = pathlib.Path(sys.argv[1])
IDS = ["--id-attr:ID", "urn:oasis:names:tc:SAML:2.0:assertion:Assertion", "--id-attr:ID", "urn:oasis:names:tc:SAML:2.0:protocol:Response"]


def certificates(provider):
    for number, text in enumerate(re.findall(r"X509Certificate>([^<]*)<", (DATA / f"{provider}-metadata.xml").read_text())):
        path = WORK / f"{provider}-{number}.pem"
        lines = re.findall(".{1,64}", "".join(text.split()))
        path.write_text("\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""]))
        yield path


def is_good(path, keys):
    for key in keys:
        command = ["xmlsec1", "--verify", "--enabled-reference-uris", "same-doc", "--enabled-key-data", "raw-x509-cert", "--pubkey-cert-pem", str(key), *IDS, str(path)]
        if subprocess.run(command, capture_output=True).returncode == 0:
            return True
    return False


with tempfile.TemporaryDirectory() as work:
    WORK = pathlib.Path(work)
    keys = {provider: list(certificates(provider)) for provider in ["pysaml2", "samlp", "xmlsec"]}
    bad, stricter = [], []
    accepted, refused = sorted(DIR.glob("accepted-*.xml")), sorted(DIR.glob("refused-*.xml"))
    for path in accepted:
        if not is_good(path, keys[path.name.split("-")[1]]):
            bad.append(path.name)
    for path in refused:
        if is_good(path, keys[path.name.split("-")[1]]):
            stricter.append(path.name)
    print(f"accepted: {len(accepted)}, of which xmlsec1 refuses {len(bad)}: {bad[:20]}")
    print(f"refused: {len(refused)}, of which xmlsec1 accepts {len(stricter)}: {stricter[:20]}")
    sys.exit(bool(bad) or not accepted)
