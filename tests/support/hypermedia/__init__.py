"""The libraries of pages that get HTML: htmx, Turbo and Datastar, as packages have them."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tests.support import PYTHON
from tests.support.building import run
from tests.support.npm import alone, install

FOLDER = Path(__file__).parent

#: On npm, Datastar ends before 1.0. This package brings 1.0.1, with two changes to how elements are
#: found and clicked; of messages, and of how they are read, it changes nothing.
STARHTML = "starhtml==0.7.0"
DATASTAR = "starhtml/static/js/datastar-core.js"


def packages() -> Path:
    """Return the folder with the packages of npm."""
    install(FOLDER)
    return FOLDER / "node_modules"


def datastar() -> Path:
    """Return the file of Datastar, which is brought by a package of PyPI."""
    found = FOLDER / "dist" / "datastar.js"
    with alone(FOLDER):
        if not found.exists():
            wheels = FOLDER / "dist"
            options = ("--no-deps", "--python-version", "3.12", "--only-binary", ":all:")
            run(PYTHON, "-m", "pip", "download", "-q", *options, "-d", wheels, STARHTML, cwd=FOLDER)
            [wheel] = wheels.glob("*.whl")
            found.write_bytes(zipfile.ZipFile(wheel).read(DATASTAR))
    return found
