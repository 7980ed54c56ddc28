"""Run the tests of the integrations with other versions than those that are installed here.

``make test-frameworks``, or some: ``make test-frameworks ARGS='django celery-5.5'``. Each row has a
virtual environment of its own in build/frameworks, which is kept. What is newest on the Python in
use is what ``make test`` has. A newer Python that a row needs is found on the path.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

#: What the tests need beside a framework.
TOOLS = ("pytest", "pytest-timeout", "httpx")


class Row(NamedTuple):
    """A framework in a version, and the tests that are run with it."""

    name: str
    requirements: tuple[str, ...]
    tests: str
    python: tuple[int, int] = (3, 11)
    """The least version."""


ROWS = (
    Row("django-6", ("Django==6.*",), "test_django.py", (3, 12)),
    Row("sqlalchemy-2.0", ("SQLAlchemy[asyncio]==2.0.*", "aiosqlite"), "test_sqlalchemy.py"),
    # Without its extra, which asks for a redis-py that is older than ours.
    Row("celery-5.5", ("celery==5.5.*",), "test_celery.py"),
    Row("celery-5.6", ("celery==5.6.*",), "test_celery.py"),
    Row("starlette-1.3", ("starlette==1.3.*", "fastapi", "itsdangerous"), "test_fastapi.py"),
)


def python(least: tuple[int, int]) -> str | None:
    """Return a Python of that version or a newer one: this one, or one on the path."""
    if sys.version_info >= least:
        return sys.executable
    for minor in range(14, least[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        # What version managers have on the path may be a name without a Python behind it.
        if (
            found
            and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0
        ):
            return found
    return None


def run(row: Row) -> str:
    """Return what came of the tests of a row: its last line."""
    interpreter = python(row.python)
    if interpreter is None:
        return f"not run: there is no Python {row.python[0]}.{row.python[1]}"
    folder = ROOT / "build" / "frameworks" / row.name
    own = folder / "bin" / "python"
    if not own.exists():
        subprocess.run([interpreter, "-m", "venv", "--without-pip", folder], check=True)
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", own, "install", "--quiet"]
    if subprocess.run([*pip, ROOT, *TOOLS, *row.requirements]).returncode:
        return "cannot be installed"
    arguments = ("-q", "-p", "no:cacheprovider", f"tests/publisher/{row.tests}")
    done = subprocess.run(
        [own, "-m", "pytest", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout)
    return done.stdout.strip().rpartition("\n")[2]


def main() -> int:
    """Run the rows that are asked for, or all, and return how many failed."""
    asked = sys.argv[1:]
    failed = 0
    for row in ROWS:
        if asked and not any(row.name.startswith(each) for each in asked):
            continue
        began = time.monotonic()
        outcome = run(row)
        failed += " passed" not in outcome or "failed" in outcome or "error" in outcome
        print(f"{row.name:16} {outcome}  [{time.monotonic() - began:.0f} s in all]", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
