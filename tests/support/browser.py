"""Real browsers: Chromium, at most two for the whole run, with no cookies at the start of a test.

Firefox shows one page, which does the test itself. Where there is no such browser the tests that
ask for one are skipped; with SINAPSE_REQUIRE_BROWSER=1 they fail instead, so that a run that must
have one cannot pass without.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from tests.support import EVENT_TIMEOUT, end, eventually

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Browser:
    """A Chromium with a profile of its own in `folder`, and what the tests do with it."""

    def __init__(self, folder: Path) -> None:
        options = ChromeOptions()
        options.binary_location = program(*PROGRAMS)
        for option in (*OPTIONS, f"--user-data-dir={folder}"):
            options.add_argument(option)
        self.driver = Chrome(options, Service(program("chromedriver")))
        self.driver.set_page_load_timeout(EVENT_TIMEOUT)

    def open(self, url: str) -> None:
        """Load a page."""
        self.driver.get(url)

    def run(self, script: str, *arguments: object) -> Any:
        """Return what the body of a JavaScript function returns."""
        return self.driver.execute_script(script, *arguments)

    def eventually(
        self, expression: str, *arguments: object, timeout: float = EVENT_TIMEOUT
    ) -> Any:
        """Poll a JavaScript expression until it is true, and return its value."""
        return eventually(lambda: self.run(f"return {expression}", *arguments), expression, timeout)

    def click(self, selector: str) -> None:
        """Click what `selector` finds, once it can be seen."""
        self.eventually("document.querySelector(arguments[0])?.checkVisibility()", selector)
        self.driver.find_element("css selector", selector).click()

    def write(self, selector: str, text: str) -> None:
        """Type into the field that `selector` finds, and press Enter."""
        self.click(selector)
        self.driver.find_element("css selector", selector).send_keys(f"{text}\n")

    def forget(self) -> None:
        """Leave the page and all cookies."""
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.open("about:blank")

    def quit(self) -> None:
        """End the process."""
        self.driver.quit()


class Tab:
    """A tab of a browser, at a URL."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        browser.driver.switch_to.new_window("tab")
        self._handle = browser.driver.current_window_handle
        browser.open(url)

    def look(self) -> Browser:
        """Return the browser, with this tab before it."""
        self._browser.driver.switch_to.window(self._handle)
        return self._browser

    def close(self) -> None:
        """Close the tab, as its user would."""
        self.look().driver.close()


@contextmanager
def closing_tabs(browser: Browser) -> Iterator[None]:
    """Close all tabs that are there after a with block, but the one that was looked at before."""
    driver = browser.driver
    first = driver.current_window_handle
    yield
    for handle in driver.window_handles:
        if handle != first:
            driver.switch_to.window(handle)
            driver.close()
    driver.switch_to.window(first)


def program(*names: str) -> str:
    """Return the path of the first program that is there; without one, the test ends here."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is not None:
        return found
    if os.environ.get("SINAPSE_REQUIRE_BROWSER") == "1":
        pytest.fail(f"SINAPSE_REQUIRE_BROWSER=1, and there is no {names[0]}")
    pytest.skip(f"there is no {names[0]}")


@contextmanager
def running_firefox(profile: Path, url: str) -> Iterator[None]:
    """Run a Firefox with a page; it needs no driver."""
    profile.mkdir()
    command = [program("firefox-esr", "firefox"), "--headless", "--no-remote", "--profile"]
    process = subprocess.Popen(
        [*command, str(profile), url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        end(process)


@pytest.fixture(scope="session")
def _first_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    yield from _running(tmp_path_factory)


@pytest.fixture(scope="session")
def _second_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    yield from _running(tmp_path_factory)


def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.quit()


@pytest.fixture
def browser(_first_browser: Browser) -> Iterator[Browser]:
    """A browser that has no cookies."""
    yield _first_browser
    _first_browser.forget()


@pytest.fixture
def other_browser(_second_browser: Browser) -> Iterator[Browser]:
    """A second one, with cookies of its own."""
    yield _second_browser
    _second_browser.forget()


class Page:
    """A page of this machine, from a port that speaks TLS, in Chromium."""

    def __init__(self, browser: Browser, port: int, token: str) -> None:
        self._browser = browser
        self._path = f"/?access_token={token}"
        browser.driver.execute_cdp_cmd("Security.setIgnoreCertificateErrors", {"ignore": True})
        # An answer of the daemon stands in for a page of its host: it forbids itself everything.
        browser.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
        browser.open(f"https://127.0.0.1:{port}/status")
        browser.run("window.seen = []; window.opened = [];")

    @property
    def protocol(self) -> str:
        """What the page itself came by."""
        return str(
            self._browser.run(
                "return performance.getEntriesByType('navigation')[0].nextHopProtocol"
            )
        )

    def open_streams(self, count: int) -> None:
        self._browser.run(
            """
            for (let number = 0; number < arguments[1]; number++) {
                const source = new EventSource(arguments[0]);
                source.addEventListener("authentication", () => seen.push("opened"));
                source.addEventListener("message", (event) => seen.push(event.data));
                opened.push(source);
            }
            """,
            self._path,
            count,
        )

    def open_websocket(self) -> None:
        self._browser.run(
            """
            const socket = new WebSocket(`wss://${location.host}${arguments[0]}`);
            socket.onmessage = (event) => {
                const {event: type, data} = JSON.parse(event.data);
                seen.push(type === "authentication" ? "opened" : data);
            };
            opened.push(socket);
            """,
            self._path,
        )

    def sees(self, text: str, times: int) -> None:
        """Wait until all streams together have seen something that often."""
        count = "seen.filter((each) => each === arguments[0]).length"
        self._browser.eventually(f"{count} === {times}", text)

    def close(self) -> None:
        self._browser.run("opened.forEach((each) => each.close())")
        self._browser.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})
