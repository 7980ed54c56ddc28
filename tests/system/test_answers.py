"""The page with answers: shown as they come, whole after a reload, in every tab, until stopped."""
# ruff: noqa: F401, F811  # fixtures are imported, and found by their names

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fastapi
import httpx
import pytest
import redis
import uvicorn
from fastapi.responses import StreamingResponse

from tests.support import EVENT_TIMEOUT, RedisServer, eventually, free_port
from tests.support.browser import Browser, Tab, _first_browser, browser, closing_tabs
from tests.support.chats import Model
from tests.support.daemon import Daemon
from tests.support.examples import running_example

# Each starts a process that loads a framework.
pytestmark = pytest.mark.timeout(240)

#: What a page shows: of each answer its question, its text, and how it stands.
SHOWN = """
return [...document.querySelectorAll("article")].map((article) => [
    article.querySelector("h2").textContent,
    article.querySelector(".text").textContent,
    article.dataset.state,
]);
"""


class Models:
    """A server that speaks the chat completions of OpenAI; the test says what it answers."""

    def __init__(self) -> None:
        #: Those that were asked, the last one last, and with what.
        self.asked: list[Model] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        #: How many were left before their end.
        self.left = 0
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.app = fastapi.FastAPI()
        self.app.add_api_route(
            "/v1/chat/completions", self._complete, methods=["POST"], response_model=None
        )

    async def _complete(self, request: fastapi.Request) -> fastapi.Response:
        self.requests.append(await request.json())
        self.keys.append(request.headers.get("Authorization"))
        if self.requests[-1]["messages"][-1]["content"] == "Fail":
            return fastapi.Response("overloaded", status_code=500)
        self.asked.append(model := Model())
        return StreamingResponse(self._chunks(model), media_type="text/event-stream")

    async def _chunks(self, model: Model) -> AsyncIterator[str]:
        yield ": as some servers begin\n\n"
        yield _chunk({"role": "assistant", "content": ""})
        try:
            async for line in model.lines():
                yield _chunk({"content": json.loads(line)})
        except asyncio.CancelledError:
            self.left += 1
            raise
        yield 'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n'
        yield "data: [DONE]\n\n"


def _chunk(delta: dict[str, str]) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}]})}\n\n"


@pytest.fixture
def models() -> Iterator[Models]:
    models = Models()
    server = uvicorn.Server(uvicorn.Config(models.app, port=models.port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started, "the model answers")
        yield models
    finally:
        server.force_exit = server.should_exit = True
        thread.join(EVENT_TIMEOUT)


@contextmanager
def running(folder: Path, redis_server: RedisServer, daemon: Daemon, **model: str) -> Iterator[str]:
    """Run the example for the length of a with block, and return its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    sinapse_url = f"http://127.0.0.1:{daemon.port}/"
    variables = {"REDIS_URL": redis_server.url, "SINAPSE_URL": sinapse_url, **model}
    command = ("answers_fastapi.py", "--port", str(port))
    with running_example(folder, url, *command, **variables):
        yield url


@pytest.fixture
def site(
    tmp_path: Path, redis_server: RedisServer, daemon: Daemon, models: Models
) -> Iterator[str]:
    """Run the example with the model of the test, and return its URL."""
    model = {"OPENAI_BASE_URL": models.url, "OPENAI_API_KEY": "secret", "MODEL": "small"}
    with running(tmp_path, redis_server, daemon, **model) as site:
        yield site


@pytest.fixture
def new_tab(browser: Browser, site: str) -> Iterator[Callable[[], Tab]]:
    """Return a function that opens the page in a tab; all are closed after the test."""
    with closing_tabs(browser):
        yield lambda: Tab(browser, site)


def ask(tab: Tab, models: Models, question: str) -> Model:
    """Ask something, and return the model that is to answer it."""
    before = len(models.asked)
    tab.look().write("input", question)
    eventually(lambda: len(models.asked) > before, "the model is asked")
    return models.asked[-1]


def shows(tab: Tab, *answers: tuple[str, str, str]) -> None:
    """Wait until a tab shows these answers, and no others."""
    expected = [list(answer) for answer in answers]
    shown: list[object] = []

    def does() -> bool:
        shown[:] = tab.look().run(SHOWN)
        return shown == expected

    try:
        eventually(does)
    except AssertionError:
        raise AssertionError(f"shown are {shown}") from None


@pytest.mark.browser
def test_answers_are_whole_after_a_reload_and_in_every_tab(
    new_tab: Callable[[], Tab], models: Models
) -> None:
    first = new_tab()
    model = ask(first, models, "What <b>is</b> it?")
    model.says("It ", "is ")
    shows(first, ("What <b>is</b> it?", "It is ", "running"))
    assert models.requests == [
        {
            "model": "small",
            "stream": True,
            "messages": [{"role": "user", "content": "What <b>is</b> it?"}],
        }
    ]
    assert models.keys == ["Bearer secret"]

    first.look().driver.refresh()
    shows(first, ("What <b>is</b> it?", "It is ", "running"))
    second = new_tab()
    shows(second, ("What <b>is</b> it?", "It is ", "running"))
    model.says("<i>what")
    for tab in (first, second):
        shows(tab, ("What <b>is</b> it?", "It is <i>what", "running"))
    other = ask(second, models, "And then?")
    other.says("Then")
    model.says(" it is.")
    model.ends()
    ended = ("What <b>is</b> it?", "It is <i>what it is.", "end")
    for tab in (first, second):
        shows(tab, ended, ("And then?", "Then", "running"))
    first.look().driver.refresh()
    other.says(" nothing.")
    other.ends()
    for tab in (first, second):
        shows(tab, ended, ("And then?", "Then nothing.", "end"))


@pytest.mark.browser
def test_an_answer_goes_on_while_nobody_looks(
    new_tab: Callable[[], Tab], models: Models, redis_client: redis.Redis
) -> None:
    tab = new_tab()
    model = ask(tab, models, "Who looks?")
    model.says("Nobody")
    shows(tab, ("Who looks?", "Nobody", "running"))
    tab.look().open("about:blank")
    model.says(", now.")
    model.ends()
    eventually(lambda: not redis_client.zcard("sinapse:runs"), "the run has ended")
    tab.look().driver.back()
    shows(tab, ("Who looks?", "Nobody, now.", "end"))


@pytest.mark.browser
def test_the_visitor_can_stop_an_answer(new_tab: Callable[[], Tab], models: Models) -> None:
    first, second = new_tab(), new_tab()
    model = ask(first, models, "For ever?")
    model.says("For")
    shows(second, ("For ever?", "For", "running"))
    second.look().click("article button")
    for tab in (first, second):
        shows(tab, ("For ever?", "For", "stopped"))
        assert not tab.look().run("return document.querySelector('article button')")

    def is_left() -> bool:
        model.says(" ever")
        return models.left == 1

    eventually(is_left, "the request to the model ends")
    first.look().driver.refresh()
    shows(first, ("For ever?", "For", "stopped"))


@pytest.mark.browser
def test_a_model_that_fails_is_told_to_the_page(new_tab: Callable[[], Tab], models: Models) -> None:
    tab = new_tab()
    tab.look().write("input", "Fail")
    shows(tab, ("Fail", "", "error"))
    note = tab.look().run("return document.querySelector('.note').textContent")
    assert "could not be completed" in note
    assert "500" not in note


@pytest.mark.browser
def test_without_a_model_the_page_answers_by_itself_and_says_so(
    tmp_path: Path, redis_server: RedisServer, daemon: Daemon, browser: Browser
) -> None:
    with running(tmp_path, redis_server, daemon, OPENAI_BASE_URL="") as site:
        browser.open(site)
        assert "no language model" in browser.run("return document.body.innerText")
        browser.write("input", "one three")
        browser.eventually("document.querySelector('article')?.dataset.state === 'end'")
        [[question, text, _]] = browser.run(SHOWN)
        assert question == "one three"
        assert "2. three has 5 characters." in text
        assert text.endswith("nothing of this is missing.")
        browser.forget()


@pytest.mark.browser
def test_who_ends_the_application_ends_its_answers(
    tmp_path: Path, redis_server: RedisServer, daemon: Daemon, models: Models, browser: Browser
) -> None:
    model = {"OPENAI_BASE_URL": models.url, "MODEL": "small"}
    with closing_tabs(browser):
        with running(tmp_path, redis_server, daemon, **model) as site:
            tab = Tab(browser, site)
            ask(tab, models, "Now?").says("Not")
            shows(tab, ("Now?", "Not", "running"))
        shows(tab, ("Now?", "Not", "error"))
    assert models.keys == [None]


def test_nobody_sees_or_stops_the_answers_of_others(
    site: str, models: Models, redis_client: redis.Redis
) -> None:
    with httpx.Client(base_url=site) as ada, httpx.Client(base_url=site) as grace:
        for visitor in (ada, grace):
            page = visitor.get("/")
            assert "httponly" in page.headers["Set-Cookie"].lower()
            assert "unsafe" not in page.headers["Content-Security-Policy"]
        assert ada.post("/questions", json={"question": "Whose?"}).status_code == 202
        eventually(lambda: models.asked, "the model is asked")
        found: Any = redis_client.zrange("sinapse:runs", 0, -1)
        path = f"/runs/{found[0].decode()}/stop"
        assert grace.post(path).status_code == 404
        assert httpx.post(f"{site[:-1]}{path}").status_code == 422
        assert redis_client.zcard("sinapse:runs") == 1
        assert ada.post(path).status_code == 204
        assert redis_client.zcard("sinapse:runs") == 0


def test_a_form_of_another_site_asks_nothing(site: str, models: Models) -> None:
    with httpx.Client(base_url=site) as client:
        client.get("/")
        answer = client.post(
            "/questions", content='{"question": "x"}', headers={"Content-Type": "text/plain"}
        )
        assert answer.status_code in (415, 422)
        assert client.post("/questions", json={"question": ""}).status_code == 422
    assert models.requests == []


def test_a_model_without_a_name_ends_the_start(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="OPENAI_BASE_URL is set, and MODEL does not say"),
        running_example(
            tmp_path, "http://127.0.0.1:1/", "answers_fastapi.py", OPENAI_BASE_URL="http://x/v1"
        ),
    ):
        pass
