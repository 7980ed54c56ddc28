"""Programs that check the project, and are not in Python; their versions are said here."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any

from tests.support.browser import program
from tests.support.building import run
from tests.support.daemon import ROOT
from tests.support.npm import alone, install

FOLDER = Path(__file__).parent

#: The last one that Go 1.19 builds, which is what Debian 12 has.
ACTIONLINT = "v1.7.7"


def actionlint() -> Path:
    """Return actionlint, which is built once for a checkout."""
    found = ROOT / "build" / "checkers" / ACTIONLINT / "actionlint"
    with alone(FOLDER):
        if not found.exists():
            command = (program("go"), "install")
            module = f"github.com/rhysd/actionlint/cmd/actionlint@{ACTIONLINT}"
            environment = os.environ | {"GOBIN": str(found.parent), "CGO_ENABLED": "0"}
            run(*command, module, cwd=FOLDER, environment=environment)
    return found


def installed(folder: Path) -> Path:
    """Make an environment with the package as users have it, and return its programs.

    The package of the checkout in use is the only thing that is there of the checkout; all others
    are those of this environment, and the stubs too.
    """
    venv.create(folder, symlinks=True)
    [packages] = folder.glob("lib/*/site-packages")
    (packages / "sinapse").symlink_to(ROOT / "sinapse")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


def known_types(module: str, folder: Path) -> dict[str, Any]:
    """Return what Pyright says of the types of all that is public in `module`.

    It works in `folder`, which is empty: modules that lie there come before those of packages.
    """
    install(FOLDER)
    # It asks the Python that is found first, whatever its options say.
    path = f"{installed(folder / 'venv')}{os.pathsep}{os.environ['PATH']}"
    # What other packages do not say of their types is ignored: of Django's and redis-py's classes
    # some is unknown, and of Celery's everything.
    options = ("--verifytypes", module, "--ignoreexternal", "--outputjson")
    told = subprocess.run(
        [FOLDER / "node_modules/.bin/pyright", *options],
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,  # It fails if something is missing, and that is what it tells.
    )
    report: dict[str, Any] = json.loads(told.stdout)
    return report
