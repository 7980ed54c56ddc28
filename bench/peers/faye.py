"""faye on Node.js: its server side, with the EventSource transport."""

import contextlib
import http.client
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from load import DATA, Publishing, Stream

from peers.server import BUILD, Missing, Peer, Running, Workload, free_port, launched

_APPLICATION = Path(__file__).parent / "applications" / "faye_app.js"
_MODULES = BUILD / "node" / "node_modules"

#: Bayeux messages in one request.
_BATCH = 500


def _ask(connection: http.client.HTTPConnection, messages: Sequence[Any]) -> list[Any]:
    """Send Bayeux messages, and return the answers."""
    answers: list[Any] = []
    for start in range(0, len(messages), _BATCH):
        body = json.dumps(messages[start : start + _BATCH])
        connection.request("POST", "/bayeux", body, {"Content-Type": "application/json"})
        answers += json.loads(connection.getresponse().read())
    return answers


def _clients(port: int, workload: Workload) -> list[str]:
    """Return the ids of clients that have subscribed, one a stream."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    hello = {
        "channel": "/meta/handshake",
        "version": "1.0",
        "supportedConnectionTypes": ["eventsource"],
    }
    greeted = _ask(connection, [hello] * len(workload.streams))
    ids = [answer["clientId"] for answer in greeted]
    wishes = [
        {
            "channel": "/meta/subscribe",
            "clientId": client,
            "subscription": [f"/room/{number}" for number in channels],
        }
        for client, channels in zip(ids, workload.streams, strict=True)
    ]
    _ask(connection, wishes)
    connection.close()
    return ids


def _publish(channel: int) -> bytes:
    body = json.dumps([{"channel": f"/room/{channel}", "data": DATA.decode()}]).encode()
    return (
        b"POST /bayeux HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )


@contextlib.contextmanager
def _run(workload: Workload, folder: Path, cores: frozenset[int]) -> Iterator[Running]:
    node = shutil.which("node")
    if node is None or not (_MODULES / "faye").exists():
        raise Missing("not installed")
    port = free_port()
    command = [node, str(_APPLICATION), str(port), str(workload.keep_alive)]
    with launched(command, folder, cores, port, {"NODE_PATH": str(_MODULES)}) as pid:
        streams = [
            Stream(f"/bayeux/{client}", channels)
            for client, channels in zip(_clients(port, workload), workload.streams, strict=True)
        ]
        templates = [_publish(number) for number in range(workload.channels)]
        yield Running(pid, port, streams, Publishing(port, templates, "HTTP/1.1 2", 50))


PEER = Peer("faye", "a b c c2 c3 d", _run, slow=True)
