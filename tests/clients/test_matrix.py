"""The matrix of clients that `matrix/install` could put here, and what each of them gets."""

import os
import subprocess
import sys
from pathlib import Path

from conftest import BREVET

HERE = Path(__file__).parent / "matrix"


def test_every_client_gets_what_it_should(capsys):
    done = subprocess.run(
        [sys.executable, str(HERE / "run.py")], env={**os.environ, "BREVET": BREVET}, capture_output=True, text=True
    )
    with capsys.disabled():
        print("\n" + done.stdout)
    assert done.returncode == 0, done.stderr[-2000:]
