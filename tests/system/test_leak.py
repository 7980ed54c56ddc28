"""Nothing of a stream stays when it has ended."""

from __future__ import annotations

import json
import subprocess

from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, PYTHON, RedisServer
from tests.support.daemon import ROOT
from tests.support.leak_probe import ROUNDS, STREAMS


def test_thousands_of_streams_leave_no_object_behind(
    redis_server: RedisServer, publisher: Publisher
) -> None:
    assert ROUNDS * STREAMS >= 4000
    publisher.channels.add("1", "room:1")
    token = publisher.tokens.generate("1")
    ended = subprocess.run(
        [PYTHON, "-m", "tests.support.leak_probe", redis_server.url, token],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2 * EVENT_TIMEOUT,
        check=True,
    )
    counts = json.loads(ended.stdout.splitlines()[-1])
    for kind, after in counts["after"].items():
        # The reactor drops cancelled timers by the fifty; one object a stream were thousands.
        slack = 100 if kind == "DelayedCall" else 5
        assert after <= counts["before"][kind] + slack, (kind, counts)
