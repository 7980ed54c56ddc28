"""The code of the front page is run as it stands, and does what the picture beside it shows."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from flask import Flask, render_template_string

from sinapse.publisher import defaults
from sinapse.publisher.flask import Sinapse
from tests.support import EVENT_TIMEOUT, RedisServer
from tests.support.browser import Browser, Tab, _first_browser, browser, closing_tabs
from tests.support.daemon import ROOT, Daemon
from tests.support.pages import serving

__all__ = ["_first_browser", "browser"]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

TABS = re.findall(
    r"^:::\{tab\} (.+)\n([\s\S]*?)^:::$", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE
)
BLOCK = re.compile(r"^```(python|html\+jinja|javascript)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: What of the page takes another form without the client.
OF_THE_CLIENT = re.compile(r"^ +const client = .+\n +client\.on\(.+\n", re.MULTILINE)
IMPORT = re.compile(r"^ +import .+\n\n", re.MULTILINE)

#: A channel for all, which is none of a room.
NEWS = "news"


def pages() -> dict[str, str]:
    """Return the template of the page: with the client, and with what every browser has."""
    template, native = (block for _, block in BLOCK.findall(TABS[2][1]))
    without, changes = OF_THE_CLIENT.subn(lambda _: native, template)
    assert changes == 1
    return {"client": template, "EventSource": IMPORT.sub("", without)}


def test_there_are_three_tabs() -> None:
    assert [title for title, _ in TABS] == ["1. Publish", "2. Who may listen", "3. Listen"]
    kinds = [[kind for kind, _ in BLOCK.findall(text)] for _, text in TABS]
    assert kinds == [["python"], ["python"], ["html+jinja", "javascript"]]
    # Without that, the page below has no position, and begins with a reset.
    assert "`@sinapse.with_position`" in TABS[2][1]


@pytest.fixture(params=pages())
def room(
    request: pytest.FixtureRequest,
    daemon: Daemon,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """Run the application of the page, and return the URL of the page for a user."""
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    monkeypatch.setenv("SINAPSE_URL", f"http://127.0.0.1:{daemon.port}/")
    template = pages()[request.param]
    names: dict[str, Any] = {"__name__": "front_page"}
    for _, text in TABS[:2]:
        exec(BLOCK.findall(text)[0][1], names)  # That is the test.
    app: Flask = names["app"]
    sinapse: Sinapse = names["sinapse"]

    @app.get("/<user>")
    @sinapse.with_position
    def page(user: str) -> str:
        return render_template_string(template, user=user)

    @app.post("/news")
    def tell() -> tuple[str, int]:
        sinapse.publish(NEWS, {"text": "Lunch!"})
        return "", 204

    with app.app_context():
        for user in ("ada", "ben"):
            sinapse.publisher.channels.add(user, NEWS)
    try:
        with serving(app) as url:
            yield url
    finally:
        with app.app_context():
            sinapse.publisher.close()
        defaults.configure(None)


def ask(url: str, method: str, path: str, **form: str) -> None:
    """Make a request of the application, which must say that it is done."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=EVENT_TIMEOUT)
    try:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request(method, path, urlencode(form), headers)
        assert connection.getresponse().status == 204
    finally:
        connection.close()


def test_a_removal_takes_effect_on_an_open_stream(browser: Browser, room: str) -> None:
    for user in ("ada", "ben"):
        ask(room, "PUT", f"/rooms/7/members/{user}")
    with closing_tabs(browser):
        ada, ben = (Tab(browser, f"{room}{user}") for user in ("ada", "ben"))

        def both_see(for_ada: list[str], for_ben: list[str]) -> None:
            for tab, texts in ((ada, for_ada), (ben, for_ben)):
                tab.look().eventually(
                    "[...document.querySelectorAll('li')].map((each) => each.textContent).join()"
                    " === arguments[0]",
                    ",".join(texts),
                )

        ask(room, "POST", "/rooms/7/messages", text="Hello")
        both_see(["Hello"], ["Hello"])
        ask(room, "DELETE", "/rooms/7/members/ben")
        ask(room, "POST", "/rooms/7/messages", text="Just us")
        ask(room, "POST", "/news")
        # The last message is on the same stream: what was before it would have come before it.
        both_see(["Hello", "Just us", "Lunch!"], ["Hello", "Lunch!"])
