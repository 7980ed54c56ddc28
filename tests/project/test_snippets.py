"""The pages on the library: what they show is run, each section as a program of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, PYTHON, RedisServer, free_port
from tests.support.clients.programs import PROGRAMS as OTHER_LANGUAGES
from tests.support.daemon import ROOT, Daemon
from tests.support.presence import CHANNELS, Node
from tests.support.walkthrough import PYTHON_BLOCK

#: The Redis of the pages, and the daemon.
SHOWN = "redis://localhost:6379/0"
SHOWN_DAEMON = "http://localhost:9000/"


def sections(page: str) -> dict[str, str]:
    """Return the Python of each section of a page by its title."""
    text = (ROOT / "docs" / page).read_text()
    found = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        if program := "\n".join(PYTHON_BLOCK.findall(body)):
            found[title] = program
    return found


def whole(page: str) -> str:
    """Return all the Python of a page as one program."""
    return "\n".join(PYTHON_BLOCK.findall((ROOT / page).read_text()))


#: What stands before a page's own code: what a reader has already.
MODELS = """
from sinapse.publisher import Publishable, Publisher, Subject
class Model:
    def __init__(self, id): self.id = id
    @classmethod
    def get(cls, id): return cls(id)
"""
USER_AND_ROOM = (
    MODELS
    + """
class User(Subject, Model): ...
class Room(Publishable, Model): ...
user, room = User(42), Room(7)
"""
)
#: Pages that show something in passing, and what comes before.
OTHERS = {"README.md": MODELS, "docs/tutorial.md": "", "docs/why-on-the-server.md": USER_AND_ROOM}

#: The project of the section on Django, for pytest-django.
DJANGO = """
from django.conf import settings
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=[
        "django.contrib.auth", "django.contrib.contenttypes", "sinapse.publisher.django",
    ],
    SECRET_KEY="for tests",
)
"""

#: Also one that belongs to a point of a list.
ANY_PYTHON_BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)

#: Pages for who comes from other servers: what a reader has already, and what uses it.
MOVES = {
    "from-centrifugo.md": ("", ""),
    "from-django-channels.md": (
        f"""{DJANGO}
import django
django.setup()
from django.contrib.auth.models import User
from django.test import RequestFactory
def may_write(user, pk): return user.pk == 42
def save(user, pk, text): print(user, pk, text)
""",
        """
join(User(pk=42), 7)
request = RequestFactory().post("/", {"text": "hello"})
request.user = User(pk=42)
assert say(request, 7).status_code == 204
leave(User(pk=42), 7)
""",
    ),
    "from-flask-sse.md": (
        "",
        """
join("42", 7)
assert app.test_client().post("/rooms/7", data={"text": "hello"}).status_code == 204
assert sinapse.publisher.channels.has("42", "room:7")
""",
    ),
    "from-mercure.md": ("", ""),
    "from-pusher.md": ("", ""),
    "migration.md": (
        """
import logging as log
from sinapse.errors import SinapseError
from sinapse.publisher import Publisher
publisher = Publisher()
def members(): return [("42", ["room:7", "news"])]
old = []
def publish_to_the_old_one(channel, event, data): old.append((channel, event, data))
""",
        """
assert publisher.channels.list("42") == {"room:7", "news"}
announce("room:7", "message", {"text": "hello"})
publisher = Publisher("redis://127.0.0.1:1")
announce("room:7", "message", {"text": "unheard"})
assert [data["text"] for _, _, data in old] == ["hello", "unheard"]
""",
    ),
}


class HasEndedError(Exception):
    """A program that goes on for ever has done what it is for."""


PRESENCE = PYTHON_BLOCK.findall((ROOT / "docs" / "presence.md").read_text())

PROGRAMS = sections("publisher.md")
LISTENERS = sections("listening.md")
RUNS = sections("runs.md")
PROGRESS = sections("howto-progress.md")
del PROGRESS["A bar"]  # It is walked through.
TESTS = sections("testing.md")


def run(folder: Path, redis_url: str, *command: str) -> None:
    """Run a program where warnings are errors, and check that it ends well."""
    ended = subprocess.run(
        [PYTHON, "-W", "error", "-W", "ignore:Passing pyOpenSSL:DeprecationWarning", *command],
        cwd=folder,
        env={**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=4 * EVENT_TIMEOUT,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_there_is_something_to_run() -> None:
    assert list(PROGRAMS) == [
        "Synchronous",
        "Sessions",
        "Groups",
        "The past of a channel",
        "All but the sender",
        "On asyncio",
        "On Twisted",
        "Many at once",
        "When it fails",
    ]
    assert list(LISTENERS) == ["In a script", "In a service", "On asyncio", "How it ends"]
    assert list(RUNS) == ["Synchronous", "On asyncio", "In a Celery task", "To stop a run"]
    assert list(PROGRESS) == ["In a thread", "In a Celery task", "A button that stops it"]
    assert list(TESTS) == ["In a block", "With pytest", "With Django", "With unittest"]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "program",
    [*PROGRAMS.values(), *RUNS.values(), "\n".join(PROGRESS.values())],
    ids=[*PROGRAMS, *map("runs: {}".format, RUNS), "progress"],
)
def test_what_the_pages_on_publishing_and_runs_show_runs(
    tmp_path: Path, redis_server: RedisServer, program: str
) -> None:
    program = program.replace(SHOWN, redis_server.url)
    assert "localhost" not in program
    (tmp_path / "program.py").write_text(program)
    run(tmp_path, redis_server.url, "program.py")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("title", LISTENERS)
def test_what_the_page_on_listening_shows_runs(
    tmp_path: Path, redis_server: RedisServer, daemon: Daemon, title: str
) -> None:
    program = LISTENERS[title].replace(SHOWN, redis_server.url)
    program = program.replace(SHOWN_DAEMON, f"http://127.0.0.1:{daemon.port}/")
    assert "localhost" not in program
    (tmp_path / "program.py").write_text(program)
    run(tmp_path, redis_server.url, "program.py")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", OTHERS)
def test_what_other_pages_show_runs(tmp_path: Path, redis_server: RedisServer, page: str) -> None:
    (tmp_path / "program.py").write_text(
        OTHERS[page] + whole(page).replace(SHOWN, redis_server.url)
    )
    run(tmp_path, redis_server.url, "program.py")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", MOVES)
def test_what_the_pages_on_other_servers_show_of_ours_runs(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, page: str
) -> None:
    """Code of the others is marked ``py`` there, and is not run."""
    text = (ROOT / "docs" / page).read_text()
    blocks = [textwrap.dedent(block) for _, block in ANY_PYTHON_BLOCK.findall(text)]
    assert blocks
    before, after = MOVES[page]
    program = "\n".join([before, *blocks, after]).replace(SHOWN, redis_server.url)
    assert "localhost" not in program
    (tmp_path / "program.py").write_text(program)
    run(tmp_path, redis_server.url, "program.py")
    *_, published = publisher.history("room:7").messages
    assert (published.event, published.message) == ("message", {"text": "hello"})


@pytest.mark.timeout(180)
def test_the_first_program_of_the_readme_runs_as_it_stands(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """It stands beside a picture of what it does, and needs nothing that is said elsewhere."""
    text = (ROOT / "README.md").read_text()
    first = PYTHON_BLOCK.search(text)
    assert first is not None
    assert re.match(r"\s*!\[[^]]+\]\(docs/architecture\.svg\)", text[first.end() :])
    (tmp_path / "program.py").write_text(first[1].replace(SHOWN, redis_server.url))
    run(tmp_path, redis_server.url, "program.py")


def stripped(text: str) -> str:
    """Return the lines of a text, wherever they begin."""
    return "\n".join(line.strip() for line in text.splitlines())


@pytest.mark.parametrize("library", ["htmx", "turbo", "datastar"])
def test_what_the_pages_on_html_show_is_of_the_examples(library: str) -> None:
    """Those are run by test_notes."""
    text = (ROOT / "docs" / f"howto-{library}.md").read_text()
    shown = re.findall(
        r"^```(?:python|html(?:\+jinja)?|jinja|js)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    )
    examples = [
        stripped(path.read_text()) for path in (ROOT / "example").glob(f"**/notes_{library}*")
    ]
    assert shown
    for block in shown:
        assert any(stripped(block) in example for example in examples), block


def test_what_the_page_on_clients_shows_is_of_the_programs() -> None:
    """Those are run by ``make test-clients``."""
    _, found, text = (ROOT / "docs" / "clients.md").read_text().partition("## Go, Rust, Java and")
    assert found
    shown = re.findall(r"^```(?:go|rust|java|js)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    programs = [
        stripped(path.read_text())
        for path in (ROOT / "tests" / "clients").rglob("*")
        if path.suffix in {".go", ".rs", ".java", ".js"} and "node_modules" not in path.parts
    ]
    assert len(shown) == len(OTHER_LANGUAGES)
    for block in shown:
        assert any(stripped(block) in program for program in programs), block


@pytest.mark.timeout(180)
def test_what_the_page_on_presence_shows_runs(
    redis_server: RedisServer, publisher: Publisher
) -> None:
    asks, listens, tells, _ = (each.replace(SHOWN, redis_server.url) for each in PRESENCE)
    exec(asks, {"publisher": publisher})  # That is the test.
    printed: list[tuple[object, ...]] = []

    def show(*values: object) -> None:
        printed.append(values)
        raise HasEndedError

    def rooms_of(_: str) -> Iterator[str]:
        yield "room:1"
        raise HasEndedError

    def tell(has_ended: threading.Event) -> None:
        """Until the program has done something. It may not be heard at first."""
        with redis_server.client() as client:
            while not has_ended.wait(0.1):
                client.publish("sinapse:presence:join", "42")

    for program in (listens, tells):
        has_ended = threading.Event()
        telling = threading.Thread(target=tell, args=(has_ended,))
        telling.start()
        try:
            with pytest.raises(HasEndedError):
                exec(program, {"publisher": publisher, "rooms_of": rooms_of, "print": show})
        finally:
            has_ended.set()
            telling.join()
    assert printed[0] == (b"sinapse:presence:join", b"42")
    told, *_ = publisher.history("room:1").messages
    assert (told.event, told.message) == ("presence", {"user": "42", "online": True})


@pytest.mark.timeout(180)
def test_the_program_there_always_knows_what_is_occupied(redis_server: RedisServer) -> None:
    *_, follows = PRESENCE
    with redis_server.client() as client:
        node = Node(client, "a1", CHANNELS)
        node.hold(begin=True)
        node.join("gone meanwhile")
        told: list[str] = []

        def stay_away() -> None:
            client.client_kill_filter(_type="pubsub")
            node.leave("gone meanwhile")
            node.join("come meanwhile")

        nexts = {
            "[b'gone meanwhile']": lambda: node.join("room:1"),
            "[b'gone meanwhile', b'room:1']": stay_away,
            "[b'come meanwhile', b'room:1']": lambda: node.leave("room:1"),
        }

        def tell(shown: list[bytes]) -> None:
            """Do what is next when something is shown for the first time."""
            told.append(str(shown))
            if told[-1] == "[b'come meanwhile']":
                raise StopIteration
            if told[-1] in nexts:
                nexts.pop(told[-1])()

        with pytest.raises(StopIteration):
            exec(follows.replace(SHOWN, redis_server.url), {"print": tell})  # That is the test.
        assert nexts == {}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("title", TESTS)
def test_what_the_page_on_testing_shows_passes(tmp_path: Path, title: str) -> None:
    (tmp_path / "test_shown.py").write_text(TESTS[title])
    if title == "With Django":
        (tmp_path / "conftest.py").write_text(DJANGO)
    nowhere = "redis://127.0.0.1:1"
    run(tmp_path, nowhere, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shown.py")


#: The files for CI: whose they are by the name of their schema, as they stand in the page.
WORKFLOWS = dict(
    zip(
        ("github-workflows", "gitlab-ci"),
        re.findall(
            r"^```yaml\n(\S.*?)^```$",
            (ROOT / "docs/testing.md").read_text(),
            re.MULTILINE | re.DOTALL,
        ),
        strict=True,
    )
)


@pytest.mark.parametrize("service", WORKFLOWS)
def test_what_the_page_on_testing_has_for_ci_is_as_its_schema_has_it(
    tmp_path: Path, service: str
) -> None:
    (tmp_path / "ci.yml").write_text(WORKFLOWS[service])
    check = Path(PYTHON).parent / "check-jsonschema"
    done = subprocess.run(
        [check, "--builtin-schema", f"vendor.{service}", tmp_path / "ci.yml"],
        capture_output=True,
        text=True,
        timeout=EVENT_TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("service", WORKFLOWS)
def test_and_its_daemon_is_there_when_that_has_been_waited_for(
    redis_server: RedisServer, service: str
) -> None:
    start, wait = re.findall(
        r"^ *(?:- )?((?:sinapse serve|curl) .+)$", WORKFLOWS[service], re.MULTILINE
    )
    port = str(free_port())
    program = f"{start}\n{wait}\n".replace("sinapse serve", f"{PYTHON} -m sinapse serve")
    with subprocess.Popen(
        ["/bin/sh", "-ec", program.replace("9000", port)],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "REDIS_URL": redis_server.url,
            "SINAPSE_PORT": f"tcp:{port}:interface=127.0.0.1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as shell:
        try:
            assert shell.wait(EVENT_TIMEOUT) == 0
        finally:
            os.killpg(shell.pid, signal.SIGTERM)
