"""The whole of it: Chromium, the chat, the daemon and Redis, each a process of its own."""
# ruff: noqa: F401, F811  # fixtures are imported, and found by their names

from __future__ import annotations

import http.client
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from sinapse.publisher import Publisher
from tests.support import (
    EVENT_TIMEOUT,
    PYTHON,
    RedisServer,
    end,
    eventually,
    free_port,
    running_redis,
)
from tests.support.browser import (
    Browser,
    _first_browser,
    _second_browser,
    browser,
    other_browser,
)
from tests.support.daemon import ROOT, Daemon, running_daemon

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

#: Seconds, so that nobody waits for a browser to come back.
RETRY = "0.2"


@contextmanager
def running_chat(server: RedisServer, daemon: Daemon) -> Iterator[str]:
    """Run the chat, as the script that it is in a checkout, and return its URL."""
    port = free_port()
    process = subprocess.Popen(
        [PYTHON, str(ROOT / "example" / "chat.py"), "--port", str(port)],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "REDIS_URL": server.url,
            "SINAPSE_URL": f"http://127.0.0.1:{daemon.port}/",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:
        assert process.poll() is None
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=EVENT_TIMEOUT)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    try:
        eventually(answers, "the chat answers")
        yield f"http://127.0.0.1:{port}/"
    finally:
        end(process)


@pytest.fixture(scope="module")
def daemon(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("daemon")
    with running_daemon(folder, redis_process.url, "--retry", RETRY) as running:
        yield running


@pytest.fixture(scope="module")
def _chat(redis_process: RedisServer, daemon: Daemon) -> Iterator[str]:
    with running_chat(redis_process, daemon) as url:
        yield url


@pytest.fixture
def chat(_chat: str, redis_server: RedisServer) -> str:
    """Return the URL of a chat that nobody is in."""
    return _chat


def sign_in(browser: Browser, chat: str, name: str) -> None:
    browser.open(chat)
    browser.write("#name", name)
    wait_until(browser, "live")


def wait_until(browser: Browser, connection: str) -> None:
    """Wait until the page says that its connection stands so; it makes pauses of up to 30 s."""
    browser.eventually(
        "document.querySelector('#connection').textContent === arguments[0]",
        connection,
        timeout=EVENT_TIMEOUT + 30,
    )


def wait_for_text(browser: Browser, text: str) -> None:
    browser.eventually("document.querySelector('#logs').textContent.includes(arguments[0])", text)


def join_help(browser: Browser, redis_client: redis.Redis) -> None:
    """Go into the room Help, and wait until the daemon listens to it."""
    browser.click("#go-help")
    browser.eventually("document.querySelector('#go-help').ariaCurrent === 'true'")

    def is_heard() -> bool:
        ((_, nodes),) = redis_client.pubsub_numsub("room:help")
        return bool(nodes)

    eventually(is_heard, "the daemon listens to room:help")


def whole_text(browser: Browser) -> str:
    """Return all text of the page, that of the rooms which are not shown too."""
    return str(browser.run("return document.body.textContent"))


def test_what_one_posts_the_other_sees(browser: Browser, other_browser: Browser, chat: str) -> None:
    sign_in(browser, chat, "Ada")
    sign_in(other_browser, chat, "Grace")
    wait_for_text(browser, "Grace joined")
    browser.write("#text", "<b>Hello</b> & welcome")
    for each in (browser, other_browser):
        wait_for_text(each, "<b>Hello</b> & welcome")
    other_browser.write("#text", "Good morning")
    wait_for_text(browser, "Good morning")
    assert browser.run("return document.querySelectorAll('.message').length") == 2
    assert browser.run("return document.querySelectorAll('.mine').length") == 1


def test_the_last_messages_are_there_after_a_reload(
    browser: Browser, other_browser: Browser, chat: str
) -> None:
    sign_in(browser, chat, "Ada")
    for text in ("one", "two"):
        browser.write("#text", text)
        wait_for_text(browser, text)
    browser.open(chat)
    wait_for_text(browser, "two")
    sign_in(other_browser, chat, "Grace")
    wait_for_text(other_browser, "two")
    browser.write("#text", "three")
    texts = "return [...document.querySelectorAll('.message .text')].map((t) => t.textContent)"
    for each in (browser, other_browser):
        wait_for_text(each, "three")
        assert each.run(texts) == ["one", "two", "three"]
    assert browser.run("return document.title") == "Sinapse chat"  # Nothing of it is unread.


def test_a_room_that_was_left_is_quiet_at_once(
    browser: Browser, other_browser: Browser, chat: str, redis_client: redis.Redis
) -> None:
    sign_in(browser, chat, "Ada")
    sign_in(other_browser, chat, "Grace")
    for each in (browser, other_browser):
        join_help(each, redis_client)
    browser.write("#text", "heard")
    wait_for_text(other_browser, "heard")
    other_browser.click("#leave")
    wait_for_text(browser, "Grace left")
    browser.write("#text", "not any more")
    wait_for_text(browser, "not any more")
    browser.click("#go-lobby")
    browser.write("#text", "in the lobby")
    wait_for_text(other_browser, "in the lobby")
    assert "not any more" not in whole_text(other_browser)


def test_a_room_that_somebody_was_removed_from_is_quiet_at_once(
    browser: Browser,
    other_browser: Browser,
    chat: str,
    redis_process: RedisServer,
    redis_client: redis.Redis,
) -> None:
    sign_in(browser, chat, "Ada")
    sign_in(other_browser, chat, "Grace")
    for each in (browser, other_browser):
        join_help(each, redis_client)
    with Publisher(redis_process.url) as publisher:
        publisher.channels.remove("chat-Grace", "room:help")
    browser.write("#text", "behind her back")
    wait_for_text(browser, "behind her back")
    browser.click("#go-lobby")
    browser.write("#text", "in the lobby")
    wait_for_text(other_browser, "in the lobby")
    assert "behind her back" not in whole_text(other_browser)


def test_without_a_room_there_is_no_connection_until_one_is_joined(
    browser: Browser, chat: str
) -> None:
    sign_in(browser, chat, "Ada")
    browser.click("#leave")
    wait_until(browser, "no room")
    browser.click("#go-lobby")
    wait_until(browser, "live")
    browser.write("#text", "back again")
    wait_for_text(browser, "back again")


def test_somebody_removed_from_every_room_comes_back_by_joining_one(
    browser: Browser, chat: str, redis_process: RedisServer
) -> None:
    sign_in(browser, chat, "Ada")
    with Publisher(redis_process.url) as publisher:
        publisher.channels.clear("chat-Ada")
    wait_until(browser, "no room")
    browser.click("#go-lobby")
    wait_until(browser, "live")


def test_a_token_that_was_revoked_is_replaced(
    browser: Browser, chat: str, redis_process: RedisServer
) -> None:
    sign_in(browser, chat, "Ada")
    with Publisher(redis_process.url) as publisher:
        publisher.tokens.clear("chat-Ada")
        eventually(lambda: publisher.tokens.get("chat-Ada"), "the page has asked for a new one")
        wait_until(browser, "live")
        publisher.publish("room:lobby", {"room": "lobby", "author": "x", "text": "new"}, "chat")
    wait_for_text(browser, "new")


def test_signing_out_ends_every_page_of_the_user(browser: Browser, chat: str) -> None:
    sign_in(browser, chat, "Ada")
    first = browser.driver.current_window_handle
    browser.driver.switch_to.new_window("tab")
    try:
        browser.open(chat)
        wait_until(browser, "live")
        browser.click("#sign-out")
        wait_until(browser, "signed out")
    finally:
        browser.driver.close()
        browser.driver.switch_to.window(first)
    wait_until(browser, "signed out")


def test_the_page_comes_back_when_the_daemon_does(
    browser: Browser, other_browser: Browser, chat: str, daemon: Daemon
) -> None:
    sign_in(browser, chat, "Ada")
    sign_in(other_browser, chat, "Grace")
    daemon.stop()
    for each in (browser, other_browser):
        wait_until(each, "reconnecting")
    daemon.start()
    for each in (browser, other_browser):
        wait_until(each, "live")
    browser.write("#text", "after the restart")
    wait_for_text(other_browser, "after the restart")


def test_the_page_comes_back_when_redis_does(browser: Browser, tmp_path: Path) -> None:
    with (
        running_redis(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server,
        running_daemon(tmp_path, server.url, "--retry", RETRY) as daemon,
        running_chat(server, daemon) as chat,
    ):
        sign_in(browser, chat, "Ada")
        token = browser.run("return fetch('/state').then((r) => r.json()).then((s) => s.token)")
        server.stop()
        eventually(lambda: daemon.get("/ready").status == 503, "the daemon knows")

        with daemon.stream(token) as stream:
            assert stream.status == 200
            assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            assert stream.next().retry
            stream.wait_for_end()

        browser.open(chat)
        # The same as the page has, but opened while Redis is away.
        browser.run(
            """
            window.early = new EventSource(arguments[0]);
            early.addEventListener("error", () => { early.failed = true; });
            early.addEventListener("authentication", () => { early.live = true; });
            """,
            f"http://127.0.0.1:{daemon.port}/?access_token={token}",
        )
        browser.eventually("early.failed")
        browser.eventually("!document.querySelector('#alert').hidden")
        assert not browser.run("return early.live")

        server.start()
        browser.eventually("early.live")
        wait_until(browser, "live")
        browser.write("#text", "Redis is back")
        wait_for_text(browser, "Redis is back")


def test_a_message_that_could_not_be_sent_is_kept(browser: Browser, tmp_path: Path) -> None:
    with (
        running_redis(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server,
        running_daemon(tmp_path, server.url, "--retry", RETRY) as daemon,
        running_chat(server, daemon) as chat,
    ):
        sign_in(browser, chat, "Ada")
        server.stop()
        browser.write("#text", "sooner or later")
        alert = browser.eventually("document.querySelector('#alert').textContent")
        assert alert == "Message not sent. Redis does not answer. Try again."
        assert browser.run("return document.querySelector('#text').value") == "sooner or later"
        server.start()
        eventually(lambda: daemon.get("/ready").status == 200, "the daemon is back")
        wait_until(browser, "live")
        browser.click("#composer button")
        wait_for_text(browser, "sooner or later")
        assert browser.run("return document.querySelector('#alert').hidden")


def test_the_policy_of_the_page_is_never_violated(browser: Browser, chat: str) -> None:
    sign_in(browser, chat, "Ada")
    browser.write("#text", "hello")
    wait_for_text(browser, "hello")
    log = browser.driver.get_log("browser")
    assert not [entry for entry in log if "Content Security Policy" in entry["message"]]
