"""The pages on the library: what they show is run, each section as a program of its own."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.daemon import ROOT
from tests.support import PATIENCE, PYTHON, RedisServer

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: The Redis of the pages.
SHOWN = "redis://localhost:6379/0"


def sections(page: str) -> dict[str, str]:
    """Return the Python of each section of a page by its title."""
    text = (ROOT / "docs" / page).read_text()
    found = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        if program := "\n".join(BLOCK.findall(body)):
            found[title] = program
    return found


PROGRAMS = sections("publisher.md")
TESTS = sections("testing.md")


def run(folder: Path, redis_url: str, *command: str) -> None:
    """Run a program where warnings are errors, and check that it ends well."""
    ended = subprocess.run(
        [PYTHON, "-W", "error", "-W", "ignore:Passing pyOpenSSL:DeprecationWarning", *command],
        cwd=folder,
        env={**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_there_is_something_to_run() -> None:
    assert list(PROGRAMS) == [
        "Synchronous",
        "On asyncio",
        "On Twisted",
        "Many at once",
        "When it fails",
    ]
    assert list(TESTS) == ["In a block", "With pytest", "With unittest"]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("title", PROGRAMS)
def test_what_the_page_on_publishing_shows_runs(
    tmp_path: Path, redis_server: RedisServer, title: str
) -> None:
    program = PROGRAMS[title].replace(SHOWN, redis_server.url)
    assert "localhost" not in program
    (tmp_path / "program.py").write_text(program)
    run(tmp_path, redis_server.url, "program.py")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("title", TESTS)
def test_what_the_page_on_testing_shows_passes(tmp_path: Path, title: str) -> None:
    (tmp_path / "test_shown.py").write_text(TESTS[title])
    nowhere = "redis://127.0.0.1:1"
    run(tmp_path, nowhere, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shown.py")
