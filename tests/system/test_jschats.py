"""Chats of the AI SDK, with React in a real Chromium: answers that outlive the page."""
# ruff: noqa: F401, F811  # fixtures are imported, and found by their names

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import RedisServer, eventually
from tests.support.browser import Browser, _first_browser, browser
from tests.support.chats import Chats, bundle_page, serving_chats
from tests.support.daemon import Daemon
from tests.support.proxy import Proxy, running_proxy

# npm may have to install the packages.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

CHAT = "chat:1"

STATUS = "document.querySelector('output')?.textContent"


class Tab:
    """A tab of the browser with a chat in it."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        browser.driver.switch_to.new_window("tab")
        self._handle = browser.driver.current_window_handle
        browser.open(url)

    def _look(self) -> Browser:
        self._browser.driver.switch_to.window(self._handle)
        return self._browser

    def asks(self, question: str) -> None:
        self._look().write("form input", question)

    def clicks(self, selector: str) -> None:
        self._look().click(selector)

    def reload(self) -> None:
        self._look().driver.refresh()

    def answers(self) -> list[str]:
        """Return the texts of the answers."""
        found: list[str] = self._look().run(
            "return [...document.querySelectorAll('.assistant')].map((item) => item.textContent)"
        )
        return found

    def shows(self, *answers: str) -> None:
        """Wait until these answers are on the page, and no others."""
        seen: list[Any] = []

        def are_shown() -> bool:
            seen[:] = [self.answers(), self._look().run(f"return {STATUS}")]
            return list(seen[0]) == [*answers]

        eventually(are_shown, f"{answers}; {seen}")

    def is_(self, status: str) -> None:
        """Wait until the chat says that it is ready, streaming, or why it has failed."""
        self._look().eventually(
            "document.querySelector('output')?.textContent === arguments[0]", status
        )

    def messages(self) -> int:
        found: int = self._look().run("return document.querySelectorAll('li').length")
        return found


@pytest.fixture(scope="module")
def _script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_page(tmp_path_factory.mktemp("chat"))


@pytest.fixture
def network(daemon: Daemon) -> Iterator[Proxy]:
    """Return what is between browser and daemon, and can break."""
    with running_proxy(daemon.port) as network:
        yield network


@pytest.fixture
def chats(redis_server: RedisServer, network: Proxy, _script: Path) -> Iterator[Chats]:
    with serving_chats(redis_server.url, f"http://127.0.0.1:{network.port}/", _script) as chats:
        yield chats


@pytest.fixture
def new_tab(browser: Browser, chats: Chats) -> Iterator[Callable[[], Tab]]:
    """Return a function that opens a tab; all are closed after the test."""
    driver = browser.driver
    first = driver.current_window_handle
    yield lambda: Tab(browser, f"{chats.url}/?chat={CHAT}")
    for handle in driver.window_handles:
        if handle != first:
            driver.switch_to.window(handle)
            driver.close()
    driver.switch_to.window(first)


def test_an_answer_is_shown_as_it_comes(new_tab: Callable[[], Tab], chats: Chats) -> None:
    tab = new_tab()
    tab.is_("ready")
    shown: list[str] = []
    for answer in ("first", "second"):
        tab.asks("Why?")
        chats.says(CHAT, f"The {answer}")
        tab.shows(*shown, f"The {answer}")
        tab.is_("streaming")
        chats.says(CHAT, " ans", "wer")
        chats.ends(CHAT)
        tab.is_("ready")
        shown.append(f"The {answer} answer")
        tab.shows(*shown)
    assert chats.state(CHAT) == "ended"


def test_a_page_that_is_loaded_anew_shows_all_of_it_and_what_comes(
    new_tab: Callable[[], Tab], chats: Chats
) -> None:
    tab = new_tab()
    tab.asks("Why?")
    said = ""
    for number in range(4):
        pieces = [f"{number}.{part} " for part in range(100)]
        chats.says(CHAT, *pieces)
        said += "".join(pieces)
        tab.shows(said)
        tab.reload()
        tab.shows(said)
    chats.says(CHAT, "end")
    chats.ends(CHAT)
    tab.is_("ready")
    tab.shows(f"{said}end")
    tab.reload()
    tab.is_("ready")
    tab.shows(f"{said}end")


def test_every_tab_shows_it_and_the_first_to_stop_stops_it_for_all(
    new_tab: Callable[[], Tab], chats: Chats
) -> None:
    first = new_tab()
    first.asks("Why?")
    chats.says(CHAT, "So ")
    first.shows("So ")
    second = new_tab()
    second.shows("So ")
    chats.says(CHAT, "far")
    first.shows("So far")
    second.shows("So far")
    second.clicks(".stop")
    first.is_("ready")
    second.is_("ready")
    chats.says(CHAT, ", and no further")
    chats.ends(CHAT)
    eventually(lambda: chats.state(CHAT) == "stopped")
    # The tab that came in the midst can ask, too: it shares the connection of the first.
    second.asks("And now?")
    chats.says(CHAT, "Now ")
    second.shows("So far", "Now ")
    first.reload()
    first.shows("So far", "Now ")
    chats.says(CHAT, "this")
    chats.ends(CHAT)
    first.is_("ready")
    second.is_("ready")
    first.shows("So far", "Now this")
    second.shows("So far", "Now this")


def test_an_answer_goes_on_while_nobody_looks(new_tab: Callable[[], Tab], chats: Chats) -> None:
    tab = new_tab()
    tab.asks("Why?")
    chats.says(CHAT, "Before, ")
    tab.shows("Before, ")
    # The component goes, and useChat aborts.
    tab.clicks(".toggle")
    chats.says(CHAT, "meanwhile, ")
    tab.clicks(".toggle")
    tab.shows("Before, meanwhile, ")
    chats.says(CHAT, "after")
    tab.shows("Before, meanwhile, after")
    assert chats.state(CHAT) == "running"
    chats.ends(CHAT)
    tab.is_("ready")
    tab.shows("Before, meanwhile, after")


def test_an_answer_that_has_ended_is_shown_to_a_page_that_came_without_it(
    new_tab: Callable[[], Tab], chats: Chats
) -> None:
    chats.tells_of_the_past = True
    tab = new_tab()
    tab.asks("Why?")
    chats.says(CHAT, *"Because")
    chats.ends(CHAT)
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
    new_tab: Callable[[], Tab], chats: Chats, network: Proxy
) -> None:
    tab = new_tab()
    tab.asks("Why?")
    late = None
    said = ""
    for number in range(6):
        for part in range(50):
            chats.says(CHAT, f"{number}.{part} ")
            said += f"{number}.{part} "
            if part % 20 == 10:
                network.cut()
        tab.shows(said)
        late = late or new_tab()
        late.shows(said)
    chats.ends(CHAT)
    for each in (tab, late):
        assert each is not None
        each.is_("ready")
        each.shows(said)
