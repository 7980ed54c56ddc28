"""The daemon of a development server: it starts with it, once, and ends with it.

A development server that reloads has a process that stays, and one that serves, and is replaced
whenever a file changes. The daemon belongs to the first, whichever of the two has started it: it
ends when that has ended, even if it was killed. That it runs, the processes of a project know by a
lock in a folder of the project, which the daemon holds. A private Redis has its data there, too.
"""

import contextlib
import fcntl
import hashlib
import logging
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
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
from sinapse.protocol.redislist import parse_all
from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher.apiurl import APIURL
from sinapse.publisher.frameworks.options import FOLDER, Form, Options

_log = logging.getLogger(__name__)

#: The file in the folder of the project that the daemon locks: whom it belongs to, and a hash of
#: what it was told.
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


class _Held(NamedTuple):
    """What the lock says: the process that a daemon belongs to, 0 for none yet, and a hash."""

    process: int
    told: str


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
    except (_Fault, OSError) as fault:
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
    environment = _environment(options)
    ours = _Held(process, _told(port, environment))
    with _lock(folder) as lock:
        held = _take(lock, ours)
        if held is not None:
            return _of_another(held, ours)
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
        _spawn(environment, companion_command(process, port, "--log-level", "warn"), lock)
    _wait(folder, port, "/status", START_TIMEOUT)
    is_ready = _wait(folder, port, "/ready", READY_TIMEOUT)
    return (
        f"streams at {options.url}, Redis at {shown}{'' if is_ready else ', which does not answer'}"
    )


def _of_another(held: _Held, ours: _Held) -> str:
    """Return what is to be said of a daemon that runs; of that of this server mostly nothing."""
    differs = held.told != ours.told
    if held.process != ours.process:
        settings = " with other settings," if differs else ""
        return f"the daemon is that of process {held.process},{settings} and ends with it"
    return "settings have changed: start this server anew" if differs else ""


def _environment(options: Options) -> dict[str, str]:
    """Return the environment of the daemon: that of this process, and what settings say."""
    environment = {**os.environ, "REDIS_URL": options.arguments["url"]}
    if "prefix" in options.arguments:
        environment["SINAPSE_PREFIX"] = options.arguments["prefix"]
    return environment


def _told(port: int, environment: Mapping[str, str]) -> str:
    """Return a hash of what a daemon is told: there are passwords in it."""
    told = port, environment["REDIS_URL"], environment.get("SINAPSE_PREFIX", "")
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _port(url: str, form: Form) -> int:
    parts = urlsplit(url)
    # It answers at / only: a path is that of a proxy.
    if (parts.scheme, parts.path) != ("http", "/") or parts.hostname not in _HOSTS:
        raise _Fault(f"{form('URL')} is {url}, and that of a daemon here is http://localhost:9000/")
    return parts.port or 80


def _redis(options: Options, form: Form) -> Sequence[RedisURL]:
    url = options.arguments["url"]
    if APIURL.parse(url) is not None:
        raise _Fault(f"{form('REDIS_URL')} is an API, which has a daemon")
    return parse_all([url])


def _spawn(environment: Mapping[str, str], command: Sequence[str], lock: int) -> None:
    """Start the daemon as a process that is nobody's child, and inherits the lock."""
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
    while True:
        has_answered = answers(port, path)
        with _lock(folder) as lock:
            # Also after an answer: it may be that of another project, which was quicker.
            if _try(lock):
                raise _Fault("it has ended at once")  # It has said why.
        if has_answered:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL)


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
    except OSError as error:  # Some file systems of other machines have no locks.
        raise _Fault(f"{FOLDER}/{LOCK} cannot be locked: {error.strerror}") from None
    return True


def _take(lock: int, ours: _Held) -> _Held | None:
    """Take the lock, and write down what is `ours`; return what it says if a daemon has it.

    That of a server that is gone ends just now, and is waited for.
    """
    deadline = time.monotonic() + END_TIMEOUT
    while not _try(lock):
        held = _read(lock)
        if held.process and is_alive(held.process):
            return held
        if time.monotonic() > deadline:
            raise _Fault("the daemon of a server that has ended still runs")
        time.sleep(POLL_INTERVAL)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{ours.process} {ours.told}".encode(), 0)
    return None


def _read(lock: int) -> _Held:
    """Return what is written down; what is not of us is as good as nothing."""
    found = re.fullmatch(rb"([0-9]{1,9}) ([0-9a-f]+)", os.pread(lock, 1024, 0))
    return _Held(int(found[1]), found[2].decode()) if found else _Held(0, "")
