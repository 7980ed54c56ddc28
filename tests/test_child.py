"""Processes that end with the one that started them."""

from __future__ import annotations

import subprocess

from sinapse.child import end_with
from tests.support import PATIENCE, PYTHON
from tests.support.daemon import ROOT


def test_a_process_ends_with_its_lifeline_though_it_hangs() -> None:
    program = f"""
from {end_with.__module__} import end_with
end_with(0, lambda: print("cleaned up", flush=True))
while True: pass
"""
    command = [PYTHON, "-c", program]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.poll() is None
        process.stdin.close()
        assert process.stdout.read() == b"cleaned up\n"
        assert process.wait(PATIENCE) == 1
