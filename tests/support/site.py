"""The site of the documentation, built once for all who look at it."""

from __future__ import annotations

import fcntl
import functools
import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import EVENT_TIMEOUT, PYTHON
from tests.support.daemon import ROOT


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Build the site as ``make docs`` does, and return its folder.

    Workers of one run share it: a build takes long, and two at a time would fetch pages from
    elsewhere into the same folder.
    """
    shared = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        shared = shared.parent
    folder = shared / "site"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "html").exists():
            _build(folder)
    return folder / "html"


def _build(folder: Path) -> None:
    made = folder / "unfinished"
    built = subprocess.run(
        [
            *(PYTHON, "-m", "sphinx", "--fail-on-warning", "--keep-going", "-q"),
            *("-d", str(folder / "doctrees"), "docs", str(made)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    made.rename(folder / "html")


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""


@pytest.fixture(scope="session")
def served_site(site: Path) -> Iterator[str]:
    """Serve the site, and return the URL of its front page."""
    handler = functools.partial(_Files, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()
        thread.join(EVENT_TIMEOUT)
