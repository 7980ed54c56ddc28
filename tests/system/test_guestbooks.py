"""The guest books: the same page on three frameworks, each run as the script that it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support import EVENT_TIMEOUT, RedisServer, eventually, free_port, running_redis
from tests.support.browser import Browser, _first_browser, browser
from tests.support.daemon import Daemon, running_daemon
from tests.support.examples import running_example

__all__ = ["_first_browser", "browser"]

# Each starts a process that loads a framework.
pytestmark = pytest.mark.timeout(240)

FRAMEWORKS = ["django", "flask", "fastapi"]


@contextmanager
def running(framework: str, folder: Path, redis_url: str, sinapse_url: str) -> Iterator[str]:
    """Run a guest book for the length of a with block, and return its URL."""
    port = free_port()
    command = (f"guestbook_{framework}.py", str(port))
    url = f"http://127.0.0.1:{port}/"
    variables = {"REDIS_URL": redis_url, "SINAPSE_URL": sinapse_url}
    with running_example(folder, f"{url}entries", *command, **variables):
        yield url


@pytest.fixture(params=FRAMEWORKS)
def book(
    request: pytest.FixtureRequest, redis_server: RedisServer, daemon: Daemon, tmp_path: Path
) -> Iterator[str]:
    """Run a guest book, and return its URL."""
    url = f"http://127.0.0.1:{daemon.port}/"
    with running(request.param, tmp_path, redis_server.url, url) as book:
        yield book


def write(book: str, text: str) -> None:
    answer = httpx.post(f"{book}entries", json={"text": text}, timeout=EVENT_TIMEOUT)
    assert answer.status_code == 204


@pytest.mark.browser
def test_what_is_written_is_seen_at_once_and_once(book: str, browser: Browser) -> None:
    assert (
        httpx.post(f"{book}entries", timeout=EVENT_TIMEOUT, json={"text": "before"}).status_code
        == 204
    )
    browser.open(book)
    browser.eventually("document.querySelectorAll('li').length === 1")
    browser.write("input", "mine")
    browser.eventually("document.querySelectorAll('li').length === 2")
    assert (
        httpx.post(
            f"{book}entries", timeout=EVENT_TIMEOUT, json={"text": "<b>another's"}
        ).status_code
        == 204
    )
    browser.eventually("document.querySelectorAll('li').length === 3")
    texts = browser.run("return [...document.querySelectorAll('li')].map((li) => li.textContent)")
    assert texts == ["<b>another's", "mine", "before"]
    browser.forget()


def test_a_form_of_another_site_writes_nothing(book: str) -> None:
    answer = httpx.post(
        f"{book}entries", content='{"text": "x"}', headers={"Content-Type": "text/plain"}
    )
    assert answer.status_code in (415, 422)
    assert httpx.get(f"{book}entries", timeout=EVENT_TIMEOUT).json() == []


@pytest.mark.browser
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_without_redis_the_page_goes_without_push_until_it_is_back(
    framework: str, tmp_path: Path, browser: Browser
) -> None:
    with running_redis(tmp_path) as server, running_daemon(tmp_path, server.url) as daemon:
        server.stop()
        url = f"http://127.0.0.1:{daemon.port}/"
        with running(framework, tmp_path, server.url, url) as book:
            answer = httpx.get(f"{book}connection", timeout=EVENT_TIMEOUT)
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
            browser.open(book)
            browser.write("input", "mine")
            browser.eventually("document.querySelectorAll('li').length === 1")
            server.start()

            def is_heard() -> bool:
                write(book, "another's")
                return bool(browser.run("return document.querySelectorAll('li').length > 1"))

            eventually(is_heard, "the page hears of entries")
            browser.forget()
