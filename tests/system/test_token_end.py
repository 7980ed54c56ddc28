"""What a page does when its token ends: the code of the page on it, in Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import flask
import flask.typing
import pytest

from sinapse.publisher import Publisher, defaults
from sinapse.publisher.flask import Sinapse
from tests.support import RedisServer, eventually
from tests.support.browser import Browser, _first_browser, browser
from tests.support.daemon import ROOT, Daemon, running_daemon
from tests.support.pages import serving

__all__ = ["_first_browser", "browser"]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

#: What the page shows for an EventSource; what comes after it is for our own client.
[CODE, _] = re.findall(
    r"^```javascript\n(.*?)^```$",
    (ROOT / "docs" / "howto-token-end.md").read_text(),
    re.MULTILINE | re.DOTALL,
)

#: What is the page's own. So that no test waits for up to five seconds, chance is on its side.
PAGE = """<!doctype html>{element}<ul></ul><script>
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
        flask.session["user"] = "ada"
        return PAGE.format(element=sinapse.element(), code=CODE)

    @app.get("/sinapse/token")
    def token() -> flask.typing.ResponseReturnValue:
        asked.append(str(flask.session.get("user")))
        return sinapse.token_view()

    @app.get("/logout")
    def log_out() -> str:
        sinapse.log_out()
        flask.session.clear()
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
