"""Packages of npm: installed, built and tested where their ``package.json`` is.

Several processes of a run may want the same one, so each waits for the others.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.browser import program
from tests.support.building import run
from tests.support.daemon import ROOT

#: The JavaScript client, and what is built of it.
CLIENT = ROOT / "clients" / "js"
SUBPATHS = ("index", "native", "react", "vue", "svelte", "ai")
BUILT = ("sinapse.js", *(f"{name}{suffix}" for name in SUBPATHS for suffix in (".js", ".d.ts")))


def npm(folder: Path, *arguments: str) -> str:
    """Run npm, which must succeed, and return what it prints."""
    return run(program("npm"), *arguments, cwd=folder, environment=os.environ)


def install(folder: Path, *options: str) -> None:
    """Install the packages that ``package-lock.json`` names, unless they are there."""
    with alone(folder) as lock:
        if not _is_newer([folder / "node_modules/.package-lock.json"], [lock]):
            quiet = ("--prefer-offline", "--no-audit", "--no-fund")
            npm(folder, "ci", "--ignore-scripts", *quiet, *options)


def build_client() -> Path:
    """Build the JavaScript client, unless that was done, and return where it is."""
    install(CLIENT)
    with alone(CLIENT) as lock:
        built = [CLIENT / "dist" / name for name in BUILT]
        sources = [lock, *CLIENT.glob("*.js*"), *(CLIENT / "src").iterdir()]
        if not _is_newer(built, sources):
            npm(CLIENT, "run", "build")
    return CLIENT / "dist"


@contextmanager
def alone(folder: Path) -> Iterator[Path]:
    """Yield ``package-lock.json``, which nobody else is inside of for the length of the block."""
    path = folder / "package-lock.json"
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield path


def _is_newer(made: Iterable[Path], sources: Iterable[Path]) -> bool:
    """Whether everything was made, after the last change of all sources."""
    if not all(path.exists() for path in made):
        return False
    return min(path.stat().st_mtime for path in made) >= max(
        path.stat().st_mtime for path in sources
    )
