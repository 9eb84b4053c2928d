"""Terraform and its provider for AWS, unmodified: the resources in `terraform/main.tf` are created, read, changed,
imported and destroyed, all of it twice, and nothing ever differs when it is read again.

Terraform and the provider come from no package registry, so they must be installed before. Without them this fails,
unless BREVET_MAY_SKIP=1 says that it shall be left out."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT
from test_boto3 import refused
from test_mfa import iam

CONFIGURATION = Path(__file__).parent / "terraform/main.tf"
METADATA = ROOT / "tests/data/saml/pysaml2-metadata.xml"
PROVIDER = "registry.terraform.io/hashicorp/aws"
# Where Terraform itself looks for providers that are installed, and where images put them.
MIRRORS = [Path.home() / ".terraform.d/plugins", *map(Path, ("/usr/local/share/terraform/plugins", "/opt/tf-plugins"))]
UNCHANGED, DIFFERS = 0, 2


@pytest.fixture(scope="module")
def terraform():
    program = shutil.which("terraform")
    mirror = next((path for path in MIRRORS if (path / PROVIDER).exists()), None)
    if not program or not mirror:
        missing = f"there is no terraform here, or no {PROVIDER} in one of {', '.join(map(str, MIRRORS))}"
        if os.environ.get("BREVET_MAY_SKIP") == "1":
            pytest.skip(missing)
        pytest.fail(f"{missing}; install them, or set BREVET_MAY_SKIP=1 to leave this out")
    return program, mirror


class Module:
    """A folder with a configuration and its state."""

    def __init__(self, terraform, world, home):
        self.program, mirror = terraform
        self.home = home
        home.mkdir()
        shutil.copy(CONFIGURATION, home)
        (home / "terraform.rc").write_text(f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n')
        alice = world["users"]["alice"]
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TF_CLI_CONFIG_FILE": str(home / "terraform.rc"),
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
            "TF_VAR_endpoint": world["iam_endpoint"],
            "TF_VAR_metadata": METADATA.read_text(),
            "AWS_ACCESS_KEY_ID": alice["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": alice["secret_access_key"],
        }
        self.run("init")

    def run(self, *arguments, step=None, expected=0):
        environment = self.environment | ({} if step is None else {"TF_VAR_step": str(step)})
        command = [self.program, *arguments, "-no-color"]
        ran = subprocess.run(command, cwd=self.home, env=environment, capture_output=True, text=True)
        assert ran.returncode == expected, ran.stdout[-6000:] + ran.stderr[-6000:]
        return ran.stdout

    def apply(self, step):
        return self.run("apply", "-auto-approve", step=step)

    def nothing_differs(self, step):
        assert "No changes." in self.run("plan", "-detailed-exitcode", step=step, expected=UNCHANGED)

    def output(self, name):
        return json.loads(self.run("output", "-json", name))


def found(step):
    """What the data sources find after a step."""
    first = step == 1
    return {
        "alias": "tf-acme" if first else "tf-acme-next",
        "keys": ["Active" if first else "Inactive"],
        "members": ["tf-first"] if first else ["tf-first", "tf-renamed"],
        "oidc": ["other", "sts.amazonaws.com"] if first else ["sts.amazonaws.com"],
        "profiles": ["tf-profile"],
        "roles": ["tf-role"],
        # The first boundary allows nobody to write.
        "simulation": not first,
        "users": ["tf-first"],
    } | dict.fromkeys(("profile", "role", "saml", "user"), True)


def test_create_read_change_import_and_destroy_twice(world, terraform, tmp_path):
    client = iam(world)
    before = client.get_account_authorization_details(MaxItems=1000)
    for time in (1, 2):
        module = Module(terraform, world, tmp_path / f"created-{time}")
        for step in (1, 2, 1):
            module.apply(step)
            module.nothing_differs(step)
            assert module.output("found") == found(step) | {"identity": world["users"]["alice"]["arn"]}

        # Another state without anything takes over what is there, and then nothing differs either.
        imported = Module(terraform, world, tmp_path / f"imported-{time}")
        blocks = [f'import {{\n  to = {address}\n  id = "{id}"\n}}\n' for address, id in module.output("ids").items()]
        (imported.home / "import.tf").write_text("".join(blocks))
        said = imported.apply(1)
        assert f"{len(blocks)} imported, " in said and " 0 destroyed" in said, said
        imported.nothing_differs(1)
        imported.run("destroy", "-auto-approve")
        assert refused(lambda: client.get_role(RoleName="tf-role")) == ("NoSuchEntity", 404)

        # Terraform sees that everything is gone, and makes it again, and destroys it.
        module.run("plan", "-detailed-exitcode", expected=DIFFERS)
        module.apply(2)
        module.nothing_differs(2)
        module.run("destroy", "-auto-approve", step=2)
    after = client.get_account_authorization_details(MaxItems=1000)
    for part in ("UserDetailList", "GroupDetailList", "RoleDetailList", "Policies"):
        assert after[part] == before[part]
