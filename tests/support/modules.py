"""The modules of the package, and which of them a program loads."""

from __future__ import annotations

import subprocess
from pathlib import Path

import sinapse
from tests.support import EVENT_TIMEOUT, PYTHON

FOLDER = Path(sinapse.__file__).parent


def modules() -> dict[str, Path]:
    """Return every module by its name within sinapse."""
    return {
        ".".join(path.relative_to(FOLDER).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(FOLDER.rglob("*.py"))
    }


MODULES = modules()


def loaded_by(program: str) -> set[str]:
    """Return the modules that a process has loaded after it has run `program`."""
    ended = subprocess.run(
        [PYTHON, "-c", f"{program}\nimport sys; print(*sys.modules, sep='\\n')"],
        cwd=FOLDER.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=EVENT_TIMEOUT,
        check=True,
    )
    return set(ended.stdout.splitlines())
