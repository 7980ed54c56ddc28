"""The notes: pages that get HTML, each with the real library in Chromium, across origins.

What a page shows is compared with what was written, whatever happens to its stream.
"""
# ruff: noqa: F401, F811  # fixtures are imported, and found by their names

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx
import pytest
import redis

from sinapse.publisher import Publisher
from sinapse.publisher.html import (
    Event,
    html_event,
    patch_elements,
    patch_signals,
    turbo_stream,
)
from tests.support import EVENT_TIMEOUT, RedisServer, eventually, free_port
from tests.support.browser import Browser, _first_browser, browser
from tests.support.daemon import Daemon, running_daemon
from tests.support.examples import running_example
from tests.support.hypermedia import datastar, packages

# npm may have to install the packages; each starts a process that loads a framework.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

#: What a page shows, and how often.
SHOWN = """
return [...document.querySelectorAll("#notes > li")].map((item) => item.innerText.trim());
"""


#: Adds HTML to the page as a library would.
ADD = """
const main = document.querySelector("#live") ?? document.body;
main.insertAdjacentHTML("beforeend", arguments[0]);
window.htmx?.process(main.lastElementChild);
"""

#: Whether an expression is true of the page.
SEEN = """((plain) => {
    const at = (selector) => document.querySelector(selector)?.textContent;
    return EXPRESSION;
})(arguments[0])"""


class Effect(NamedTuple):
    """What is added to the page, what is published then, and what becomes true of the page."""

    html: str
    event: Event
    expression: str


#: What a test pushes: several lines, and what is escaped in HTML. The page shows `PLAIN`.
HTML = "<u>&lt;1&gt;\n\n &amp; 2</u>"
PLAIN = "<1>\n\n & 2"


class Library(NamedTuple):
    """A page with a library: the script, the path of the page, and who Ada is for Sinapse."""

    script: str
    path: str = ""
    ada: str = "Ada"
    #: Whether each message is the whole list. Such a page is told of nothing that is missing.
    is_whole: bool = False
    effects: tuple[Effect, ...] = ()


LIBRARIES = {
    "htmx 2": Library(
        "notes_htmx.py",
        effects=(
            Effect(
                '<b sse-swap="other, count"></b>',
                html_event(HTML, "count"),
                "at('b > u') === plain",
            ),
            Effect('<i sse-swap="x:7"></i>', html_event(HTML, "x:7"), "at('i > u') === plain"),
        ),
    ),
    "htmx 4": Library("notes_htmx.py", "4"),
    "Turbo": Library(
        "notes_turbo.py",
        ada="auth.user:2",
        effects=(
            Effect(
                '<b class="a \'b">old</b>',
                turbo_stream("update", targets='b[class="a \'b"]', html=HTML),
                "at('b > u') === plain",
            ),
            Effect(
                '<b id="c"><u class="x">old</u></b>',
                turbo_stream("replace", "c", f'<b id="c">{HTML}</b>', method="morph"),
                "at('#c > u:not([class])') === plain",
            ),
            Effect('<b id="d"></b>', turbo_stream("remove", "d"), "at('#d') === undefined"),
        ),
    ),
    "Datastar": Library(
        "notes_datastar.py",
        is_whole=True,
        effects=(
            Effect(
                '<b class="a \'b"></b>',
                patch_elements(HTML, selector='b[class="a \'b"]', mode="append"),
                "at('b > u') === plain",
            ),
            Effect(
                '<b id="c">old</b>', patch_elements(f'<b id="c">{HTML}</b>'), "at('#c') === plain"
            ),
            Effect(
                '<b id="d"></b>',
                patch_elements(selector="#d", mode="remove"),
                "at('#d') === undefined",
            ),
            Effect(
                '<b id="e" data-text="$shown.text"></b>',
                patch_signals({"shown": {"text": PLAIN}}),
                "at('#e') === plain",
            ),
        ),
    ),
}


class Notes:
    """The example, its daemon, and a page of it."""

    def __init__(self, url: str, library: Library, daemon: Daemon, browser: Browser) -> None:
        self.url, self.library, self.daemon, self.browser = url, library, daemon, browser
        self.written: list[str] = []
        self._others = httpx.Client(base_url=url, follow_redirects=True, timeout=EVENT_TIMEOUT)

    def __enter__(self) -> Self:
        self._post("login", name="Grace")
        self.browser.open(self.url)
        if self.library.path:  # Without the other page, whose stream Chromium may keep.
            body = "method: 'POST', body: new URLSearchParams({name: 'Ada'})"
            self.browser.run(f"return fetch('/login', {{{body}}}).then(({{ok}}) => ok)")
            self.browser.open(f"{self.url}{self.library.path}")
        else:
            self.browser.write("input[name=name]", "Ada")
        self.is_open()
        return self

    def __exit__(self, *_: object) -> None:
        self._others.close()
        self.browser.forget()

    def is_open(self) -> None:
        """Wait until there is just one stream, which the page has opened."""
        eventually(lambda: self.daemon.metrics()["sinapse_streams"] == 1, "one stream")

    def another_writes(self, text: str) -> None:
        """Write a note, as it is done by somebody else."""
        assert self._post("notes", text=text).status_code == 204
        self.written.append(f"Grace {text}")

    def _post(self, path: str, **form: str) -> httpx.Response:
        """Send a form, with what Django wants to have in it."""
        page = self._others.get("").text
        hidden = re.findall(r'name="(csrf\w+)" value="(\w+)"', page)
        return self._others.post(path, data=form | dict(hidden))

    def writes(self, text: str) -> None:
        """Write a note in the page."""
        self.browser.write("input[name=text]", text)
        self.written.append(f"Ada {text}")

    def has(self, publisher: Publisher) -> None:
        """Publish what the library can do besides, and wait until the page has it."""
        for html, event, expression in self.library.effects:
            self.browser.run(ADD, html)
            publisher.publish("notes", *event)
            self.browser.eventually(SEEN.replace("EXPRESSION", expression), PLAIN)

    def shows(self) -> None:
        """Wait until the page shows what was written, each note once."""
        shown: list[str] = []

        def does() -> bool:
            shown[:] = self.browser.run(SHOWN)
            return shown == self.written

        try:
            eventually(does, timeout=2 * EVENT_TIMEOUT)
        except AssertionError:
            logs = self.browser.driver.get_log("browser")
            raise AssertionError(f"{shown}\n{self.written}\n{logs}") from None


@contextmanager
def running(
    folder: Path, redis_url: str, daemon: Daemon, library: Library, **variables: str
) -> Iterator[str]:
    """Run the example of a library for the length of a with block, and return its URL."""
    (folder / "node_modules").symlink_to(packages())
    (folder / "datastar.js").symlink_to(datastar())
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    variables |= {"REDIS_URL": redis_url, "SINAPSE_URL": f"http://127.0.0.1:{daemon.port}/"}
    with running_example(folder, url, library.script, str(port), **variables):
        yield url


@pytest.fixture(scope="module")
def _daemon(
    tmp_path_factory: pytest.TempPathFactory, redis_process: RedisServer
) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("daemon")
    options = ("--retry", "0.2", "--expiry-notice", "5")
    with running_daemon(folder, redis_process.url, *options) as daemon:
        yield daemon
        assert "Traceback" not in daemon.log


@pytest.fixture(params=LIBRARIES)
def notes(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_server: RedisServer,
    _daemon: Daemon,
    browser: Browser,
) -> Iterator[Notes]:
    library = LIBRARIES[request.param]
    eventually(lambda: _daemon.metrics()["sinapse_streams"] == 0, "the last page is gone")
    with (
        running(tmp_path, redis_server.url, _daemon, library, TOKEN_LIFETIME="6") as url,
        Notes(url, library, _daemon, browser) as notes,
    ):
        yield notes


def test_a_page_shows_each_note_once_whatever_happens_to_its_stream(
    notes: Notes, publisher: Publisher, redis_client: redis.Redis
) -> None:
    notes.writes("mine")
    notes.shows()
    notes.another_writes("<b>another's</b> & 'hers'\r\n\r\nevent: x")
    notes.written[-1] = "Grace <b>another's</b> & 'hers' event: x"
    notes.shows()

    notes.has(publisher)

    # A token that is about to end is renewed, and the stream lives on.
    ada = notes.library.ada
    tokens = redis_client.scan_iter("sinapse:tokens:*")
    [token] = [key for key in tokens if redis_client.get(key) == ada.encode()]
    opened = notes.daemon.metrics()["sinapse_streams_opened_total"]
    left: list[Any] = []

    def is_renewed() -> bool:
        left.append(redis_client.pttl(token))
        return len(left) > 1 and left[-1] > left[-2]

    eventually(is_renewed, "the token is renewed")
    assert notes.daemon.metrics()["sinapse_streams_opened_total"] == opened

    # The daemon drains, and another one takes its place.
    notes.daemon.stop()
    notes.another_writes("meanwhile")
    notes.another_writes("and then")
    notes.daemon.start()
    notes.shows()

    # What is missing is loaded.
    notes.daemon.stop()
    notes.another_writes("not retained")
    notes.another_writes("not retained either")
    if not notes.library.is_whole:
        redis_client.delete("sinapse:retained:notes")
    notes.daemon.start()
    notes.shows()
    notes.is_open()
    notes.another_writes("live again")
    notes.shows()

    # A token that has ended is replaced.
    publisher.sessions.end_all(ada)
    notes.another_writes("with another token")
    notes.is_open()
    notes.shows()
