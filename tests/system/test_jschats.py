"""Chats of the AI SDK, with React in a real Chromium: answers that outlive the page."""
# ruff: noqa: F401, F811  # fixtures are imported, and found by their names

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sinapse.publisher import Publisher
from tests.support import RedisServer, eventually
from tests.support.browser import Browser, _first_browser, browser, closing_tabs
from tests.support.browser import Tab as BrowserTab
from tests.support.chats import SUBJECT, Chats, Model, bundle_page, serving_chats
from tests.support.daemon import Daemon
from tests.support.distance import _daemon, daemon, proxy
from tests.support.proxy import Proxy

# npm may have to install the packages.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

CHAT = "chat:1"

STATUS = "document.querySelector('output')?.textContent"


class Tab(BrowserTab):
    """A tab with a chat in it."""

    def asks(self, question: str) -> None:
        self.look().write("form input", question)

    def clicks(self, selector: str) -> None:
        self.look().click(selector)

    def reload(self) -> None:
        self.look().driver.refresh()

    def answers(self) -> list[str]:
        """Return the texts of the answers."""
        found: list[str] = self.look().run(
            "return [...document.querySelectorAll('.assistant')].map((item) => item.textContent)"
        )
        return found

    def shows(self, *answers: str) -> None:
        """Wait until these answers are on the page, and no others."""
        try:
            eventually(lambda: self.answers() == [*answers])
        except AssertionError:
            status = self.look().run(f"return {STATUS}")
            raise AssertionError(f"shown are {self.answers()}: {status}") from None

    def is_(self, status: str) -> None:
        """Wait until the chat says that it is ready, streaming, or why it has failed."""
        self.look().eventually(f"{STATUS} === arguments[0]", status)

    def messages(self) -> int:
        found: int = self.look().run("return document.querySelectorAll('li').length")
        return found


@pytest.fixture(scope="module")
def _script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_page(tmp_path_factory.mktemp("chat"))


@pytest.fixture
def chats(redis_server: RedisServer, proxy: Proxy, _script: Path) -> Iterator[Chats]:
    with serving_chats(redis_server.url, f"http://127.0.0.1:{proxy.port}/", _script) as chats:
        yield chats


@pytest.fixture
def new_tab(browser: Browser, chats: Chats) -> Iterator[Callable[[], Tab]]:
    """Return a function that opens a tab; all are closed after the test."""
    with closing_tabs(browser):
        yield lambda: Tab(browser, f"{chats.url}/?chat={CHAT}")


def ask(tab: Tab, chats: Chats) -> Model:
    """Ask something, and return the model that is to answer it."""
    before = len(chats.models)
    tab.asks("Why?")
    eventually(lambda: len(chats.models) > before, "the model is asked")
    return chats.models[-1]


@pytest.mark.parametrize("rooms", [(), ("room:1",)])
def test_an_answer_is_shown_as_it_comes(
    rooms: tuple[str, ...], new_tab: Callable[[], Tab], chats: Chats, publisher: Publisher
) -> None:
    """Also to who may listen to nothing before."""
    for room in rooms:
        publisher.channels.add(SUBJECT, room)
    tab = new_tab()
    tab.is_("ready")
    shown: list[str] = []
    for answer in ("first", "second"):
        model = ask(tab, chats)
        model.says(f"The {answer}")
        tab.shows(*shown, f"The {answer}")
        tab.is_("streaming")
        model.says(" ans", "wer")
        model.ends()
        tab.is_("ready")
        shown.append(f"The {answer} answer")
        tab.shows(*shown)
    assert chats.state(CHAT) == "ended"


def test_a_page_that_is_loaded_anew_shows_all_of_it_and_what_comes(
    new_tab: Callable[[], Tab], chats: Chats
) -> None:
    tab = new_tab()
    model = ask(tab, chats)
    said = ""
    for number in range(4):
        pieces = [f"{number}.{part} " for part in range(100)]
        model.says(*pieces)
        said += "".join(pieces)
        tab.shows(said)
        tab.reload()
        tab.shows(said)
    model.says("end")
    model.ends()
    tab.is_("ready")
    tab.shows(f"{said}end")
    tab.reload()
    tab.is_("ready")
    tab.shows(f"{said}end")


def test_every_tab_shows_it_and_the_first_to_stop_stops_it_for_all(
    new_tab: Callable[[], Tab], chats: Chats, publisher: Publisher, daemon: Daemon
) -> None:
    publisher.channels.add(SUBJECT, "room:1")
    first = new_tab()
    model = ask(first, chats)
    model.says("So ")
    first.shows("So ")
    second = new_tab()
    second.shows("So ")
    model.says("far")
    first.shows("So far")
    second.shows("So far")
    second.clicks(".stop")
    first.is_("ready")
    second.is_("ready")
    model.says(", and no further")
    eventually(lambda: chats.state(CHAT) == "stopped")
    # The tab that came in the midst can ask, too, over the connection of the first.
    model = ask(second, chats)
    model.says("Now ")
    second.shows("So far", "Now ")
    first.reload()
    first.shows("So far", "Now ")
    model.says("this")
    model.ends()
    first.is_("ready")
    second.is_("ready")
    first.shows("So far", "Now this")
    second.shows("So far", "Now this")
    eventually(lambda: daemon.metrics()["sinapse_streams"] == 1)


def test_an_answer_goes_on_while_nobody_looks(new_tab: Callable[[], Tab], chats: Chats) -> None:
    tab = new_tab()
    model = ask(tab, chats)
    model.says("Before, ")
    tab.shows("Before, ")
    # The component goes, and useChat aborts.
    tab.clicks(".toggle")
    model.says("meanwhile, ")
    tab.clicks(".toggle")
    tab.shows("Before, meanwhile, ")
    model.says("after")
    tab.shows("Before, meanwhile, after")
    assert chats.state(CHAT) == "running"
    model.ends()
    tab.is_("ready")
    tab.shows("Before, meanwhile, after")


def test_an_answer_that_has_ended_is_shown_to_a_page_that_came_without_it(
    new_tab: Callable[[], Tab], chats: Chats
) -> None:
    chats.tells_of_the_past = True
    tab = new_tab()
    model = ask(tab, chats)
    model.says(*"Because")
    model.ends()
    tab.is_("ready")
    saved = eventually(lambda: chats.messages[CHAT][1:] and chats.messages[CHAT])
    for messages in (saved, saved[:1]):
        chats.messages[CHAT] = messages
        tab.reload()
        tab.shows("Because")
        tab.is_("ready")
        tab.shows("Because")
        assert tab.messages() == 2


def test_an_answer_is_whole_whatever_breaks(
    new_tab: Callable[[], Tab], chats: Chats, proxy: Proxy
) -> None:
    tab = new_tab()
    model = ask(tab, chats)
    late = None
    said = ""
    for number in range(6):
        for part in range(50):
            model.says(f"{number}.{part} ")
            said += f"{number}.{part} "
            if part % 20 == 10:
                proxy.cut()
        tab.shows(said)
        late = late or new_tab()
        late.shows(said)
    model.ends()
    for each in (tab, late):
        assert each is not None
        each.is_("ready")
        each.shows(said)
