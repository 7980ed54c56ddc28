"""Versions of libraries that do not fit: said in one line at the start, not to each client."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sinapse.daemon.internals import Use, check, uses
from sinapse.errors import StartError
from tests.support import EVENT_TIMEOUT
from tests.support.daemon import ROOT, Daemon

#: Loaded before anything else: a library in which a name that is no promise has changed.
RENAMED = """
import h2.frame_buffer

class FrameBuffer(h2.frame_buffer.FrameBuffer):
    def __init__(self, server=False):
        super().__init__(server)
        self.data = self.__dict__.pop("_data")

h2.frame_buffer.FrameBuffer = FrameBuffer
"""


def test_the_installed_libraries_fit() -> None:
    check()


@pytest.mark.parametrize("use", list(uses()), ids=lambda use: f"{use.where}-{use.names[0]}")
def test_each_name_that_is_missing_is_said(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in use.names:
        without = use._replace(has=set(use.has) - {name})
        monkeypatch.setattr(
            "sinapse.daemon.internals.uses", lambda without=without: iter([without])
        )
        with pytest.raises(StartError, match=rf"{use.library} [\d.]+ has no {use.where}.{name}, "):
            check()


def test_the_daemon_does_not_start_with_a_library_that_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(RENAMED)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    daemon = Daemon(tmp_path, "redis://127.0.0.1:1", environment={"PYTHONPATH": path})
    assert daemon.launch().wait(EVENT_TIMEOUT) == 1
    [line] = daemon.log.splitlines()
    assert line.startswith("sinapse: h2 ")
    assert "has no FrameBuffer._data, which is needed: pip install --upgrade" in line
