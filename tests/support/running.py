"""What a run has published, and a process that dies in the midst of one."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple

import redis

from sinapse.protocol.message import unpack
from sinapse.protocol.names import PLAIN
from tests.support import PYTHON, end
from tests.support.daemon import ROOT

#: Sends a piece, says the id of its run, and goes on for ever.
PROGRAM = """
import sys, time
from sinapse.publisher import Publisher

with Publisher(sys.argv[1]).run(sys.argv[2], "answer", retain=float(sys.argv[3])) as run:
    run.send("before")
    run.flush()
    print(run.id, flush=True)
    while True:
        time.sleep(1)
"""


class Told(NamedTuple):
    """A message of a run."""

    event: str | None
    data: dict[str, Any]


def told(client: redis.Redis, channel: str) -> list[Told]:
    """Return the retained messages of a channel of a run."""
    entries: Any = client.xrange(PLAIN.retained_key(channel))
    messages = [unpack(fields[b"p"]) for _, fields in entries]
    return [Told(each.event, json.loads(each.data)) for each in messages]


def pieces(messages: list[Told]) -> list[Any]:
    """Return the pieces in those messages."""
    return [piece for each in messages if each.event == "piece" for piece in each.data["pieces"]]


@contextlib.contextmanager
def dying(
    url: str, subject: str, retain: float = 60
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a process with a run, and give its id; the test kills it."""
    process = subprocess.Popen(
        [PYTHON, "-c", PROGRAM, url, subject, str(retain)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().decode().strip(), process
    finally:
        end(process)
        assert process.stdout is not None
        process.stdout.close()
