"""Applications in Python that stream by themselves: one process, uvloop, one Redis connection."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import hiredis
import redis
from load import DATA, Publishing, Stream

from peers.server import BUILD, Missing, Peer, Running, Workload, free_port, launched, running_redis

_BIN = BUILD / "venv" / "bin"
_APPLICATIONS = Path(__file__).parent / "applications"


def _write_users(client: redis.Redis, workload: Workload) -> None:
    pipeline = client.pipeline(transaction=False)
    for user, channels in enumerate(workload.streams):
        pipeline.set(f"token:{user}", user)
        pipeline.sadd(f"channels:{user}", *channels)
    pipeline.execute()


def _publish(channel: int) -> bytes:
    return hiredis.pack_command(("PUBLISH", f"room:{channel}", DATA))  # type: ignore[arg-type]


def _starlette(port: int, workload: Workload) -> list[str]:
    tls = []
    if workload.certificate is not None:
        name = str(workload.certificate)
        tls = ["--ssl-keyfile", name, "--ssl-certfile", name]
    return [
        *(str(_BIN / "uvicorn"), "--app-dir", str(_APPLICATIONS), "starlette_app:app"),
        *("--port", str(port), "--loop", "uvloop", "--http", "httptools", "--backlog", "4096"),
        *("--no-access-log", "--log-level", "warning", *tls),
    ]


def _aiohttp(port: int, workload: Workload) -> list[str]:
    tls = [] if workload.certificate is None else [str(workload.certificate)]
    return [str(_BIN / "python"), str(_APPLICATIONS / "aiohttp_app.py"), str(port), *tls]


def _django(port: int, _: Workload) -> list[str]:
    return [
        *(str(_BIN / "uvicorn"), "--app-dir", str(_APPLICATIONS), "django_app:app"),
        *("--port", str(port), "--loop", "uvloop", "--http", "httptools", "--backlog", "4096"),
        *("--no-access-log", "--log-level", "warning", "--lifespan", "off"),
    ]


def _post(channel: int) -> bytes:
    """Return a request to the application, which then tells its streams."""
    return (
        b"POST /publish?channel=room:%d HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (channel, len(DATA), DATA)
    )


@contextlib.contextmanager
def _run(
    command: Callable[[int, Workload], list[str]],
    workload: Workload,
    folder: Path,
    cores: frozenset[int],
    *,
    by_http: bool = False,
) -> Iterator[Running]:
    if not _BIN.exists():
        raise Missing("not installed")
    port = free_port()
    with running_redis(folder) as server, contextlib.closing(server.client()) as client:
        _write_users(client, workload)
        streams = [
            Stream(f"/?access_token={user}", channels)
            for user, channels in enumerate(workload.streams)
        ]
        request = _post if by_http else _publish
        templates = [request(number) for number in range(workload.channels)]
        environment = {"REDIS_URL": server.url, "KEEP_ALIVE": str(int(workload.keep_alive))}
        with launched(command(port, workload), folder, cores, port, environment) as pid:
            assert server.process is not None  # noqa: S101
            publishing = (
                Publishing(port, templates, "HTTP/1.1 2", 1)
                if by_http
                else Publishing(server.port, templates, "\r\n")
            )
            yield Running(pid, port, streams, publishing, server.process.pid)


STARLETTE = Peer("sse-starlette", "a b c c2 c3 d e f i ie", partial(_run, _starlette), slow=True)
AIOHTTP = Peer("aiohttp-sse", "a b c e", partial(_run, _aiohttp), slow=True)
DJANGO = Peer("django-eventstream", "a b c", partial(_run, _django, by_http=True), slow=True)
