"""The live page, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from sinapse.publisher import Publisher
from tests.support import RedisServer, eventually, free_port
from tests.support.browser import Browser, _first_browser, browser
from tests.support.daemon import Daemon, Stream, running_daemon

__all__ = ["_first_browser", "browser"]  # fixtures

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def daemon(tmp_path: Path, redis_server: RedisServer, port: int) -> Iterator[Daemon]:
    admin = f"tcp:{port}:interface=127.0.0.1"
    with running_daemon(tmp_path, redis_server.url, "--admin", admin) as daemon:
        yield daemon
        assert "Traceback" not in daemon.log


@pytest.fixture
def page(browser: Browser, daemon: Daemon, port: int) -> Browser:
    browser.open(f"http://127.0.0.1:{port}/")
    return browser


def text(page: Browser, selector: str) -> str:
    return str(page.run("return document.querySelector(arguments[0]).textContent", selector))


def test_it_shows_what_happens(page: Browser, daemon: Daemon, publisher: Publisher) -> None:
    page.eventually("document.title === '0 streams · Sinapse'")
    publisher.channels.add("42", "room:<1>")
    with daemon.stream(publisher.tokens.generate("42")).opened() as stream:
        daemon.get("/?access_token=nobody")
        page.eventually("document.title === '1 streams · Sinapse'")
        publisher.publish("room:<1>", "hello")
        stream.wait_for_message("hello")
        page.eventually("document.querySelector('#channels th')?.textContent === 'room:<1>'")
        page.eventually("document.querySelectorAll('#channels td')[1].textContent === '1'")
        assert text(page, "#redis") == "Redis: connected"
        assert "unknown token" in text(page, "#reasons")
        # The line of the first plot, that of streams, has begun to be drawn.
        page.eventually("document.querySelector('.plot .line').getAttribute('d').includes('L')")
        page.eventually("document.querySelector('#alert').hidden")


def test_it_asks_nobody_else_and_its_policy_forbids_it(
    page: Browser, daemon: Daemon, port: int
) -> None:
    page.eventually("document.title.endsWith('streams · Sinapse')")
    asked = page.run("return performance.getEntriesByType('resource').map(({name}) => name)")
    assert {name.split("?")[0] for name in asked} <= {
        f"http://127.0.0.1:{port}/status",
        f"http://127.0.0.1:{port}/channels",
    }
    page.run(
        "addEventListener('securitypolicyviolation', ({effectiveDirective}) =>"
        " (window.violated = effectiveDirective)); fetch(arguments[0]).catch(() => {})",
        f"http://127.0.0.1:{daemon.port}/status",
    )
    page.eventually("window.violated === 'connect-src'")
    refused = "try { document.body.setAttribute('onclick', '1') } catch { return 'refused' }"
    assert page.run(refused) == "refused"


def test_a_subject_is_looked_up_and_its_streams_are_ended_with_the_keyboard_alone(
    page: Browser, daemon: Daemon, publisher: Publisher
) -> None:
    publisher.channels.add("a/b", "news")
    with daemon.stream(publisher.tokens.generate("a/b")).opened() as stream:
        page.eventually("document.title === '1 streams · Sinapse'")
        page.write("#identifier", "a/b")
        page.eventually("document.querySelector('#streams td')?.textContent === 'event stream'")
        assert text(page, "#subject-channels") == "news"
        # From the field to "Look up" and on to "End its streams".
        active = page.driver.switch_to.active_element
        active.send_keys(Keys.TAB)
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        assert page.run("return document.activeElement.id") == "end"
        page.driver.switch_to.active_element.send_keys(Keys.ENTER)
        page.eventually("document.querySelector('#confirm').open")
        # Escape, and the button that stands first, leave them.
        page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
        page.eventually("!document.querySelector('#confirm').open")
        assert text(page, "#subject-says") == "1 open, 1 channels"
        page.run("document.querySelector('#end').focus()")
        page.driver.switch_to.active_element.send_keys(Keys.ENTER)
        page.eventually("document.querySelector('#confirm').open")
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        assert text(page, "#confirm :focus") == "End them"
        page.driver.switch_to.active_element.send_keys(Keys.ENTER)
        stream.wait_for_end()
        page.eventually(
            "document.querySelector('#subject-says').textContent === 'has no open stream here'"
        )


def test_it_shows_the_workers_of_a_node(
    browser: Browser, tmp_path: Path, redis_server: RedisServer, publisher: Publisher, port: int
) -> None:
    options = ("--workers", "2", "--admin", f"tcp:{port}:interface=127.0.0.1")
    publisher.channels.add("1", "room:1")
    token = publisher.tokens.generate("1")
    with (
        running_daemon(tmp_path, redis_server.url, *options) as daemon,
        daemon.stream(token).opened() as stream,
    ):
        browser.open(f"http://127.0.0.1:{port}/")
        browser.eventually("document.querySelectorAll('#worker-rows tr').length === 2")
        browser.eventually("document.title === '1 streams · Sinapse'")
        browser.write("#identifier", "1")
        browser.eventually("document.querySelector('#streams td')?.textContent.includes('worker')")
        browser.click("#end")
        browser.click("#confirm .danger")
        stream.wait_for_end()
        browser.eventually("document.title === '0 streams · Sinapse'")
        browser.eventually("document.querySelector('#alert').hidden")


def test_it_says_when_the_node_is_gone_and_goes_on_when_it_is_back(
    page: Browser, daemon: Daemon
) -> None:
    page.eventually("document.title === '0 streams · Sinapse'")
    daemon.stop()
    page.eventually("!document.querySelector('#alert').hidden")
    daemon.start()
    page.eventually("document.querySelector('#alert').hidden")


def test_it_is_light_or_dark_and_remembers(page: Browser, daemon: Daemon, port: int) -> None:
    def theme() -> str:
        return str(page.run("return document.documentElement.dataset.theme"))

    assert theme() in ("light", "dark")
    seen = []
    for _ in range(3):
        page.click("#theme")
        seen.append(theme())
    assert seen[:2] == ["light", "dark"]
    page.click("#theme")
    page.open(f"http://127.0.0.1:{port}/")
    page.eventually("document.documentElement.dataset.theme === 'light'")
    page.run("localStorage.clear()")


@pytest.mark.parametrize("width", [320, 390, 820, 1400])
def test_it_fits_any_screen(
    page: Browser, daemon: Daemon, publisher: Publisher, width: int
) -> None:
    publisher.channels.add("1", "c" * 300)
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        with daemon.stream(publisher.tokens.generate("1")).opened():
            page.write("#identifier", "1")
            page.eventually("document.querySelector('#streams td')")
            page.eventually("document.querySelector('#channels th')")
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.run(f"return {wide}") == 0
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_page_without_a_script_says_so_and_leads_to_the_figures(
    daemon: Daemon, port: int
) -> None:
    with Stream(port, "/", {"Accept": "*/*"}) as answer:
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        document = answer.response.read().decode()
    assert '<a href="status">' in document
    assert "src=" not in document
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    eventually(lambda: daemon.get("/ready").status == 200)
