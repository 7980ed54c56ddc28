"""The daemon of a development server: it starts with it, once, and ends with it.

A development server that reloads has a process that stays, and one that serves, and is replaced
whenever a file changes. The daemon belongs to the first, whichever of the two has started it: it
ends when that has ended, even if it was killed. That it runs, the processes of a project know by a
lock in a folder of the project, which the daemon holds. A private Redis has its data there, too.
"""

import contextlib
import fcntl
import logging
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from sinapse.child import (
    END_TIMEOUT,
    POLL_INTERVAL,
    START_TIMEOUT,
    answers,
    companion_command,
    find_redis,
    is_alive,
    is_taken,
)
from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher.apiurl import APIURL
from sinapse.publisher.frameworks.options import Form, Options

_log = logging.getLogger(__name__)

#: The file in the folder of the project that the daemon locks: whom it belongs to, and what it was
#: told.
LOCK = "development.lock"

#: Seconds for a Redis to answer the daemon: an embedded one takes less than one. A server that
#: waits for a Redis that is away would not say what is wrong.
READY_TIMEOUT = 5.0

#: What the daemon of a development server may be reached as.
_HOSTS = ("localhost", "127.0.0.1")

#: Where it may be started, for whoever has asked for it elsewhere.
_SERVERS = "manage.py runserver with DEBUG, flask run --debug, uvicorn --reload, fastapi dev"

#: With these a command of Django only says something of itself.
_QUESTIONS = frozenset(("-h", "--help", "--version"))


class _Fault(Exception):
    """Why there is no daemon; one line."""


def owner(*, is_server: bool = False) -> int | None:
    """Return the number of the process of the development server that stays when it reloads.

    None if this is no development server. `is_server` is what the framework knows of this process.
    """
    # Some set the first of these alone, for other servers, to have less in their logs.
    if os.environ.get("WERKZEUG_RUN_MAIN") == "true" and "WERKZEUG_SERVER_FD" in os.environ:
        return os.getppid()
    if sys.argv[1:2] in (["runserver"], ["runserver_plus"]):
        if not _QUESTIONS.isdisjoint(sys.argv):
            return None
        return os.getppid() if os.environ.get("RUN_MAIN") == "true" else os.getpid()
    parent = multiprocessing.parent_process()
    if parent is not None and _is_reloaded():
        return parent.pid
    return os.getpid() if is_server else None


def _is_reloaded() -> bool:
    """Whether this process serves for a parent that replaces it, as that of uvicorn does."""
    if "--reload" in sys.argv or (sys.argv[1:2] == ["dev"] and _is_fastapi(Path(sys.argv[0]))):
        return True
    # uvicorn.run(…, reload=True): its process has been given all that it runs with.
    given = getattr(multiprocessing.current_process(), "_kwargs", {})
    return bool(getattr(given.get("config"), "reload", False))


def _is_fastapi(program: Path) -> bool:
    named = program.parent if program.name == "__main__.py" else program  # python -m fastapi
    return named.stem == "fastapi"


def refuse(setting: str) -> None:
    """Say that no daemon is started here, where nobody develops."""
    _log.warning("%s starts no daemon here: it is for %s", setting, _SERVERS)


def start(options: Options, form: Form, process: int) -> None:
    """Start the daemon, unless it runs, and wait until it serves; it ends with `process`.

    What becomes of it is one line on the terminal: a server without push is still one. `form` makes
    of a setting's name what the framework calls it.
    """
    try:
        said = _started(options, form, process)
    except _Fault as fault:
        said = f"no daemon is started: {fault}"
    if said:
        sys.stderr.write(f"Sinapse: {said}\n")
        sys.stderr.flush()


def _started(options: Options, form: Form, process: int) -> str:
    folder = options.autostart
    if folder is None:
        return ""
    port, redis = _port(options.url, form), _redis(options, form)
    shown = " ".join(map(str, redis))  # Without passwords.
    with _lock(folder) as lock:
        told = f"{port} {shown}"
        if not _take(lock, process, told):
            changed = _read(lock)[1] != told
            return "settings have changed: start this server anew" if changed else ""
        if is_taken(port):
            raise _Fault(
                f"port {port} is taken; for another one, let {form('URL')} be "
                f"http://localhost:{port + 1}/"
            )
        if redis[0].embedded and find_redis() is None:
            raise _Fault(
                "a Redis is missing: pip install 'sinapse-push[embedded]', or say where one is, as "
                f"{form('REDIS_URL')}"
            )
        _spawn(options, companion_command(process, port, "--log-level", "warn"), lock)
    _wait(folder, port, "/status", START_TIMEOUT)
    is_ready = _wait(folder, port, "/ready", READY_TIMEOUT)
    return (
        f"streams at {options.url}, Redis at {shown}{'' if is_ready else ', which does not answer'}"
    )


def _port(url: str, form: Form) -> int:
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in _HOSTS:
        raise _Fault(f"{form('URL')} is {url}, and that of a daemon here is http://localhost:9000/")
    return parts.port or 80


def _redis(options: Options, form: Form) -> Sequence[RedisURL]:
    url = options.arguments["url"]
    if APIURL.parse(url) is not None:
        raise _Fault(f"{form('REDIS_URL')} is an API, which has a daemon")
    return RedisURL.parse_all([url])


def _spawn(options: Options, command: Sequence[str], lock: int) -> None:
    """Start the daemon as a process that is nobody's child, and inherits the lock."""
    environment = {**os.environ, "REDIS_URL": options.arguments["url"]}
    if "prefix" in options.arguments:
        environment["SINAPSE_PREFIX"] = options.arguments["prefix"]
    subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", '"$@" &', "sh", *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        pass_fds=(lock,),
        start_new_session=True,  # Ctrl-C in the terminal is for the server; the daemon follows it.
        check=True,
    )


def _wait(folder: Path, port: int, path: str, timeout: float) -> bool:
    """Return whether the daemon answers in time; raises :class:`_Fault` if it has ended."""
    deadline = time.monotonic() + timeout
    while not answers(port, path):
        with _lock(folder) as lock:
            if _try(lock):
                raise _Fault("it has ended at once")  # It has said why.
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL)
    return True


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[int]:
    """Open the file that is locked while the daemon runs; make it, if need be, and its folder."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ignored = folder / ".gitignore"
        if not ignored.exists():
            ignored.write_text("*\n")
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _Fault(f"{folder}: {error.strerror}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take(lock: int, process: int, told: str) -> bool:
    """Return whether the lock is ours, and write down for whom; False while a daemon has it.

    That of a server that is gone ends just now, and is waited for.
    """
    deadline = time.monotonic() + END_TIMEOUT
    while not _try(lock):
        holder, _ = _read(lock)
        if holder and is_alive(holder):
            return False
        if time.monotonic() > deadline:
            raise _Fault("the daemon of a server that has ended still runs")
        time.sleep(POLL_INTERVAL)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{process} {told}".encode(), 0)
    return True


def _read(lock: int) -> tuple[int, str]:
    """Return the process that the daemon belongs to, 0 for none yet, and what it was told."""
    process, _, told = os.pread(lock, 65536, 0).decode().partition(" ")
    return int(process or 0), told
