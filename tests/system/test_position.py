"""From page to stream without a gap: on each framework, in Chromium, in whatever order."""

from __future__ import annotations

import html
import json
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, RedisServer, eventually, running_redis
from tests.support.browser import Browser, _first_browser, browser
from tests.support.daemon import Daemon, Stream
from tests.support.pages import CHANNEL, FRAMEWORKS, Site
from tests.support.proxy import Proxy, running_proxy

__all__ = ["_first_browser", "browser"]

pytestmark = pytest.mark.timeout(180)

#: Of each framework: 201 in all.
STORIES = 67


class Place(NamedTuple):
    """A site at a URL, and the network between its pages and the daemon."""

    site: Site
    url: str
    network: Proxy


@contextmanager
def running(framework: str, server: RedisServer, daemon: Daemon) -> Iterator[Place]:
    """Serve a site for the length of a with block."""
    with (
        Publisher(server.url) as publisher,
        running_proxy(daemon.port) as network,
        FRAMEWORKS[framework](
            site := Site(publisher), server.url, f"http://127.0.0.1:{network.port}/"
        ) as url,
    ):
        yield Place(site, url, network)


@pytest.fixture(params=FRAMEWORKS)
def place(
    request: pytest.FixtureRequest, redis_server: RedisServer, daemon: Daemon
) -> Iterator[Place]:
    with running(request.param, redis_server, daemon) as place:
        yield place


def texts(browser: Browser) -> list[str]:
    found: list[str] = browser.run(
        "return [...document.querySelectorAll('li')].map((item) => item.textContent)"
    )
    return found


def wait_for(browser: Browser, text: str) -> None:
    browser.eventually(
        "[...document.querySelectorAll('li')].some((item) => item.textContent === arguments[0])",
        text,
    )


@pytest.mark.browser
class TestInABrowser:
    def test_what_is_published_before_the_stream_opens_is_on_the_page_once(
        self, place: Place, browser: Browser
    ) -> None:
        site, url, network = place
        site.write("before the view")
        site.before = lambda: site.write("before the query")
        site.after = lambda: site.write("after the query")
        network.stall()  # The stream asks, and does not open.
        browser.open(url)
        eventually(lambda: network.connections, "the page asks for its stream")
        assert texts(browser) == ["before the view", "before the query"]
        site.write("before the stream")
        assert texts(browser) == ["before the view", "before the query"]
        network.flow()
        wait_for(browser, "before the stream")
        site.write("live")
        wait_for(browser, "live")
        assert texts(browser) == site.entries
        # What came after the position, and nothing twice.
        assert browser.run("return received") == site.entries[1:]
        assert browser.run("return resets") == 0

    def test_a_page_that_is_older_than_what_is_retained_loads_its_state_once(
        self, place: Place, browser: Browser
    ) -> None:
        site, url, _ = place
        site.is_cached = True
        site.write("before")
        httpx.get(url, timeout=EVENT_TIMEOUT)
        site.write("gone", retain=0.001)
        for loads in (1, 2):  # Whoever reloads it gets it out of the cache again.
            browser.open(url)
            wait_for(browser, "gone")
            for number in range(3):
                text = f"live {loads}.{number}"
                site.write(text)
                wait_for(browser, text)
            assert set(texts(browser)) == set(site.entries)
            assert len(texts(browser)) == len(site.entries)
            assert browser.run("return resets") == 1
            assert site.fetches == loads
            assert site.pages == 1 + loads

    def test_a_page_without_redis_loads_its_state_when_its_stream_opens(
        self, place: Place, browser: Browser, redis_server: RedisServer
    ) -> None:
        site, url, _ = place
        # Redis gives no position, and then it does give a token.
        with redis_server.client() as client:
            state = client.hgetall("sinapse:retention")
            client.rename("sinapse:retention", "elsewhere")
            client.set("sinapse:retention", "of another type")

            def mend() -> None:
                client.delete("sinapse:retention")
                client.rename("elsewhere", "sinapse:retention")

            site.before = mend
            site.after = lambda: site.entries.append("unheard")
            browser.open(url)
            assert client.hgetall("sinapse:retention").keys() == state.keys()
        wait_for(browser, "unheard")
        site.write("live")
        wait_for(browser, "live")
        assert texts(browser) == ["unheard", "live"]
        assert browser.run("return resets") == 1
        assert site.fetches == 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_no_page_is_stale_however_changes_and_pages_interleave(
    framework: str, redis_server: RedisServer, daemon: Daemon
) -> None:
    with (
        running(framework, redis_server, daemon) as place,
        httpx.Client(timeout=EVENT_TIMEOUT) as client,
    ):
        for seed in range(STORIES):
            _tell(place, daemon, client, f"{framework} {seed}")


def _tell(place: Place, daemon: Daemon, client: httpx.Client, seed: str) -> None:
    """Render a page and open its stream, with changes at any moment; look at what it shows."""
    site, url, _ = place
    chance = random.Random(seed)
    site.entries.clear()
    published: list[str] = []

    def publish() -> None:
        text = site.entries[len(published)]
        site.publisher.publish(CHANNEL, text)
        published.append(text)

    def some() -> None:
        for _ in range(chance.randrange(4)):
            if len(published) < len(site.entries) and chance.random() < 0.5:
                publish()
            else:  # A change is published later than it can be read.
                site.entries.append(f"{seed}: {len(site.entries)}")

    site.before = site.after = some
    some()
    page = client.get(url).text
    some()
    (element,) = re.findall(r"<script[^>]*sinapse-connection[^>]*>(.*?)</script>", page)
    connection = json.loads(element)
    path = f"/?access_token={connection['token']}&lastEventId={connection['position']}"
    with Stream(daemon.address, path) as stream:
        some()
        stream.opened()
        some()
        while len(published) < len(site.entries):
            publish()
        site.write("the end")
        received: list[str] = []
        while "the end" not in received:
            event = stream.next()
            assert event.event is None, (seed, event)
            received.append(event.data)
    shown = [html.unescape(text) for text in re.findall("<li>(.*?)</li>", page)]
    assert set(shown + received) == set(site.entries), seed
    # Once, and in the order of publication: the last of what was published.
    assert received == [*published, "the end"][-len(received) :], seed


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_position_of_another_redis_is_answered_with_one_reset(
    framework: str, redis_server: RedisServer, daemon: Daemon, tmp_path: Path
) -> None:
    with running_redis(tmp_path) as another, Publisher(another.url) as elsewhere:
        elsewhere.publish(CHANNEL, "elsewhere")
        foreign = elsewhere.position()
    with running(framework, redis_server, daemon) as place:
        page = httpx.get(place.url, timeout=EVENT_TIMEOUT).text
        token = json.loads(re.findall(r"sinapse-connection[^>]*>(.*?)</script>", page)[0])["token"]
        with daemon.stream(token, after=foreign).opened() as stream:
            first = stream.next()
            assert first.event == "reset"
            place.site.write("live")
            assert stream.next().data == "live"
        with daemon.stream(token, after=first.id).opened() as stream:
            assert stream.next().data == "live"
