"""Sinapse, as it is delivered: with retention, and so with ids."""

import contextlib
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hiredis
import redis
from load import Publishing, Stream

from peers.server import Failed, Peer, Running, Workload, free_port, launched, running_redis
from sinapse.protocol.names import PLAIN
from sinapse.protocol.scripts import Script
from sinapse.publisher import Publisher
from sinapse.publisher.channels import Channels
from sinapse.publisher.operations.operation import Operation
from tests.support import EVENT_TIMEOUT

#: Characters, as many as a real token has.
TOKEN_LENGTH = 86

#: In the churn every user gets one of so many other channels, and loses it when so many users
#: have got theirs after it.
CHURN_CHANNELS = 100
CHURN_HELD = 250


def _token(user: int) -> str:
    return f"{user:0{TOKEN_LENGTH}d}"


def _channel(number: int) -> str:
    return f"room:{number}"


def _write_users(client: redis.Redis, workload: Workload) -> None:
    pipeline = client.pipeline(transaction=False)
    for user, channels in enumerate(workload.streams):
        pipeline.set(PLAIN.token_key(_token(user)), str(user))
        pipeline.sadd(PLAIN.channels_key(str(user)), *map(_channel, channels))
    pipeline.execute()


class _Recorder:
    """Stands in for the publisher's connections: what would be sent to Redis is kept."""

    def __init__(self) -> None:
        self.scripts: set[Script] = set()
        self.requests: list[bytes] = []

    def run(self, operation: Operation[int]) -> int:
        """Keep what would be asked."""
        request = operation.request(PLAIN)
        if request.script is not None:
            self.scripts.add(request.script)
        command = hiredis.pack_command(request.short())  # type: ignore[arg-type]  # its hint is wrong
        self.requests.append(command)
        return 1


def _recorded(change: Callable[[Publisher], None], client: redis.Redis) -> list[bytes]:
    """Return what `change` has sent to Redis, whose scripts that knows then."""
    recorder: Any = _Recorder()
    publisher = Publisher("redis://localhost")
    publisher._connections = recorder  # noqa: SLF001  # The requests of users, whatever they are.
    publisher.channels = Channels(recorder)
    change(publisher)
    for script in recorder.scripts:
        client.script_load(script.source)
    requests: list[bytes] = recorder.requests
    return requests


def _publish_to_all(workload: Workload) -> Callable[[Publisher], None]:
    def publish(publisher: Publisher) -> None:
        for number in range(workload.channels):
            publisher.publish(_channel(number), workload.data_of(number))

    return publish


def _change_lists(users: int) -> Callable[[Publisher], None]:
    def change(publisher: Publisher) -> None:
        """Add and remove in turn."""
        for user in range(users):
            former = (user - CHURN_HELD) % users
            publisher.channels.add(user, f"other:{user % CHURN_CHANNELS}")
            publisher.channels.remove(former, f"other:{former % CHURN_CHANNELS}")

    return change


def _wait_until_ready(port: int, *, tls: bool) -> None:
    """Wait until Redis is heard: whoever comes before that is told to come again."""
    scheme = "https" if tls else "http"
    context = ssl._create_unverified_context() if tls else None  # noqa: S323, SLF001
    for _ in range(int(EVENT_TIMEOUT / 0.05)):
        with contextlib.suppress(urllib.error.URLError):
            urllib.request.urlopen(f"{scheme}://127.0.0.1:{port}/ready", context=context).close()  # noqa: S310
            return
        time.sleep(0.05)
    raise Failed("Sinapse does not become ready")


@contextlib.contextmanager
def _run(
    workload: Workload, folder: Path, cores: frozenset[int], *, workers: int | None = None
) -> Iterator[Running]:
    """Run it on `cores`; with `workers` on all there are, where these and the load must share."""
    port, admin = free_port(), free_port()
    if workers is not None:
        cores = frozenset(range(os.cpu_count() or 1))
    endpoint = f"tcp:{port}:interface=127.0.0.1"
    if workload.certificate is not None:
        endpoint = (
            f"ssl:{port}:interface=127.0.0.1:privateKey={workload.certificate}"
            f":certKey={workload.certificate}"
        )
    with running_redis(folder) as server, contextlib.closing(server.client()) as client:
        _write_users(client, workload)
        command = [sys.executable, "-m", "sinapse", "serve", "--port", endpoint]
        command += ["--redis", server.url, "--keep-alive", str(workload.keep_alive)]
        if workers is not None:
            command += ["--workers", str(workers), "--admin", f"tcp:{admin}:interface=127.0.0.1"]
        streams = [
            Stream(f"/?access_token={_token(user)}", channels)
            for user, channels in enumerate(workload.streams)
        ]

        def resuming() -> Sequence[Stream]:
            epoch, counter = client.hmget(PLAIN.retention, "epoch", "counter")  # type: ignore[misc]
            header = f"Last-Event-ID: {epoch.decode()}-{int(counter) - workload.missed}"
            return [each._replace(header=header) for each in streams]

        messages = _recorded(_publish_to_all(workload), client)
        changes = _recorded(_change_lists(len(streams)), client)
        with launched(command, folder, cores, port) as pid:
            _wait_until_ready(port, tls=workload.certificate is not None)
            if workers is not None:
                _wait_until_ready(admin, tls=False)  # All of them.
            assert server.process is not None  # noqa: S101
            yield Running(
                pid,
                port,
                streams,
                # An answer has several lines, and one head.
                Publishing(server.port, messages, "*2\r\n"),
                server.process.pid,
                Publishing(server.port, changes, "\r\n"),
                resuming,
            )


PEER = Peer("Sinapse", "a b c c2 c3 d e f f2 g ha hb hc i ie ir", _run)

#: What several cores bring: for (a) and (b), beside one worker that may have all cores as well.
WORKERS = tuple(Peer(f"workers x{count}", "a b", partial(_run, workers=count)) for count in (1, 2))
