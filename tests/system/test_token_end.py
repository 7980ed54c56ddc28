"""What a page does when its token ends: the code of the page on it, in Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import flask
import pytest

from sinapse.publisher import Publisher, defaults
from sinapse.publisher.flask import Sinapse
from tests.support import RedisServer, eventually
from tests.support.browser import Browser, _first_browser, browser
from tests.support.daemon import ROOT, Daemon, running_daemon
from tests.support.pages import serving
from tests.support.walkthrough import program

__all__ = ["_first_browser", "browser"]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

#: What the page shows for an EventSource; what comes after it is for our own client.
[CODE, _] = re.findall(
    r"^```javascript\n(.*?)^```$",
    (ROOT / "docs" / "howto-token-end.md").read_text(),
    re.MULTILINE | re.DOTALL,
)

#: The view that it asks.
VIEW = program("howto-token-end.md", "With an EventSource")

#: What is the page's own. So that no test waits for up to five seconds, chance is on its side.
PAGE = """<!doctype html><body data-user="{user}">{element}<ul></ul><script>
  Math.random = () => 0.01;
  function show(text) {{
    document.querySelector("ul").append(document.createElement("li"));
    document.querySelector("li:last-child").textContent = text;
  }}
  function load() {{ show("reset"); }}
  function signIn() {{ show("sign in"); }}
  {code}
</script>"""


class Place(NamedTuple):
    """A site, its extension, and how often its token view was asked."""

    url: str
    asked: list[str]


@pytest.fixture(scope="module")
def daemon(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("daemon")
    with running_daemon(folder, redis_process.url, "--retry", "0.1") as daemon:
        yield daemon


@contextmanager
def site(redis_url: str, daemon: Daemon, lifetime: float) -> Iterator[Place]:
    """Serve the page for ada, whose token lives for so many seconds."""
    app = flask.Flask(__name__)
    app.config.update(
        SECRET_KEY="for tests",
        SINAPSE_REDIS_URL=redis_url,
        SINAPSE_URL=f"http://127.0.0.1:{daemon.port}/",
        SINAPSE_TOKEN_LIFETIME=lifetime,
    )
    sinapse = Sinapse(app)
    sinapse.subject_loader(lambda: flask.session.get("user"))
    asked: list[str] = []

    @app.get("/")
    @sinapse.with_position
    def page() -> str:
        user = flask.session.setdefault("user", "ada")
        return PAGE.format(user=user, element=sinapse.element(), code=CODE)

    @app.before_request
    def note() -> None:
        if flask.request.path == "/sinapse/token":
            asked.append(str(flask.session.get("user")))

    names = {"app": app, "session": flask.session, "request": flask.request, "sinapse": sinapse}
    exec(VIEW, names)

    @app.get("/logout")
    def log_out() -> str:
        sinapse.log_out()
        flask.session.clear()
        return ""

    @app.get("/login/<user>")
    def log_in(user: str) -> str:
        flask.session["user"] = user
        return ""

    try:
        with serving(app) as url:
            yield Place(url, asked)
    finally:
        with app.app_context():
            sinapse.publisher.close()
        defaults.configure(None)


def texts(browser: Browser) -> list[str]:
    found: list[str] = browser.run(
        "return [...document.querySelectorAll('li')].map((item) => item.textContent)"
    )
    return found


def opened(daemon: Daemon) -> float:
    return daemon.metrics()["sinapse_streams_opened_total"]


def test_a_page_prolongs_its_token_and_keeps_its_stream(
    redis_server: RedisServer, daemon: Daemon, publisher: Publisher, browser: Browser
) -> None:
    publisher.channels.add("ada", "news")
    before = opened(daemon)
    with site(redis_server.url, daemon, lifetime=3) as place:
        browser.open(place.url)
        eventually(lambda: len(place.asked) >= 2, "it is told twice that its token ends")
        publisher.publish("news", "still here")
        browser.eventually("document.body.innerText.includes('still here')")
        assert opened(daemon) == before + 1
        assert texts(browser) == ["still here"]


def test_a_page_whose_session_has_ended_asks_for_another_and_misses_nothing(
    redis_server: RedisServer, daemon: Daemon, publisher: Publisher, browser: Browser
) -> None:
    publisher.channels.add("ada", "news")
    with site(redis_server.url, daemon, lifetime=3600) as place:
        browser.open(place.url)
        publisher.publish("news", "before")
        browser.eventually("document.body.innerText.includes('before')")
        publisher.sessions.end_all("ada")
        publisher.publish("news", "meanwhile")
        browser.eventually("document.body.innerText.includes('meanwhile')")
        publisher.publish("news", "after")
        browser.eventually("document.body.innerText.includes('after')")
        assert texts(browser) == ["before", "meanwhile", "after"]
        assert place.asked == ["ada"]


def test_a_page_that_has_got_nothing_yet_misses_nothing_either(
    redis_server: RedisServer, daemon: Daemon, publisher: Publisher, browser: Browser
) -> None:
    publisher.channels.add("ada", "news")
    before = opened(daemon)
    with site(redis_server.url, daemon, lifetime=3600) as place:
        browser.open(place.url)
        eventually(lambda: opened(daemon) == before + 1)
        publisher.sessions.end_all("ada")
        publisher.publish("news", "meanwhile")
        browser.eventually("document.body.innerText.includes('meanwhile')")
        assert texts(browser) == ["meanwhile"]
        assert place.asked == ["ada"]


def test_a_page_does_not_go_on_with_the_token_of_somebody_else(
    redis_server: RedisServer, daemon: Daemon, publisher: Publisher, browser: Browser
) -> None:
    for user in ("ada", "grace"):
        publisher.channels.add(user, "news")
    before = opened(daemon)
    with site(redis_server.url, daemon, lifetime=3600) as place:
        browser.open(place.url)
        eventually(lambda: opened(daemon) == before + 1)
        browser.run("return fetch('/login/grace').then(() => null)")
        publisher.sessions.end_all("ada")
        browser.eventually("document.body?.dataset.user === 'grace'")
        publisher.publish("news", "for grace")
        browser.eventually("document.body.innerText.includes('for grace')")
        assert place.asked == ["grace"]


def test_a_page_of_somebody_who_has_logged_out_says_so(
    redis_server: RedisServer, daemon: Daemon, publisher: Publisher, browser: Browser
) -> None:
    publisher.channels.add("ada", "news")
    before = opened(daemon)
    with site(redis_server.url, daemon, lifetime=3600) as place:
        browser.open(place.url)
        eventually(lambda: opened(daemon) == before + 1)
        browser.run("return fetch('/logout').then(() => null)")
        browser.eventually("document.body.innerText.includes('sign in')")
        assert place.asked == ["None"]
