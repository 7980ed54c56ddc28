"""The examples that are web applications, each run as the script that it is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support import EVENT_TIMEOUT, PYTHON, end, eventually
from tests.support.daemon import ROOT

#: Seconds for a process that loads a framework.
START_TIMEOUT = 120


@contextmanager
def running_example(
    folder: Path, url: str, script: str, *arguments: str, **variables: str
) -> Iterator[None]:
    """Run a script for the length of a with block, which begins when it answers a GET of `url`.

    Whatever happens to it, it shows no traceback and no warning.
    """
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PYTHON, "-W", "default", ROOT / "example" / script, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(url, timeout=EVENT_TIMEOUT).status_code == 200
        except httpx.TransportError:
            return False

    try:
        eventually(answers, f"{script} answers", START_TIMEOUT)
        yield
    finally:
        end(process)
    assert "Traceback" not in log.read_text()
    assert "Warning" not in log.read_text()
