"""What the checkout builds, for those who install it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import PYTHON
from tests.support.daemon import ROOT

#: What tells Python, pip or Sinapse of the checkout, or of the machine's settings.
OURS = ("PYTHON", "SINAPSE", "REDIS", "VIRTUAL_ENV")

#: What is left of the environment for whoever knows nothing of the checkout.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(OURS)} | {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1"
}

#: Folders that are made where a checkout is used, and are no part of it.
LEFTOVERS = {"__pycache__", "_build", "_generated", "node_modules"}


def run(*command: str | Path, cwd: Path, environment: Mapping[str, str] = ENVIRONMENT) -> str:
    """Run a command that must succeed, and return all that it prints."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


class Built(NamedTuple):
    """What the checkout builds, and what building it printed."""

    checkout: Path
    sdist: Path
    wheel: Path
    wheel_of_sdist: Path
    output: str


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A wheel, an sdist, and a wheel of the sdist, of a copy of the checkout in use."""
    folder = tmp_path_factory.mktemp("built")
    checkout = folder / "checkout"
    leftovers = shutil.ignore_patterns(".*", *LEFTOVERS, "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, checkout, ignore=leftovers)
    for hidden in (".ci", ".github"):
        shutil.copytree(ROOT / hidden, checkout / hidden)
    for package in (
        "clients/js",
        "tests/clients/react-native",
        "tests/support/checkers",
        "tests/support/clients",
    ):
        (checkout / package / "node_modules/other").mkdir(parents=True)
        (checkout / package / "node_modules/other/index.js").write_bytes(b"installed by npm")
    for leftover in ("_build/index.html", "_generated/readme.md", "__pycache__/conf.pyc"):
        (checkout / "docs" / leftover).parent.mkdir()
        (checkout / "docs" / leftover).write_bytes(b"made for the site")
    (checkout / "twisted/plugins/dropin.cache").write_bytes(b"written by twistd")
    build = (PYTHON, "-m", "build", "--no-isolation", "--outdir")
    output = run(*build, folder / "sdist", checkout, cwd=folder)
    output += run(*build, folder / "wheel", "--wheel", checkout, cwd=folder)
    [sdist] = folder.glob("sdist/*.tar.gz")
    [wheel_of_sdist] = folder.glob("sdist/*.whl")
    [wheel] = folder.glob("wheel/*.whl")
    return Built(checkout, sdist, wheel, wheel_of_sdist, output)
