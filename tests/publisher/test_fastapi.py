"""FastAPI and Starlette: the lifespan, the dependency, pages; through the real applications."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse
from starlette.applications import Starlette
from starlette.authentication import BaseUser, SimpleUser, UnauthenticatedUser
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

import sinapse.publisher
from sinapse.publisher import Publisher, aio
from sinapse.publisher.fastapi import Position, Push, PushSession, Sinapse
from sinapse.publisher.fastapi import publisher as dependency
from sinapse.publisher.frameworks import script
from sinapse.publisher.frameworks.options import faults
from sinapse.publisher.frameworks.page import HASHED
from sinapse.publisher.starlette import Settings
from tests.support import RedisServer, free_port, running_redis
from tests.support.daemon import Daemon, running_daemon
from tests.support.walkthrough import program


@dataclass
class User(aio.Subject):
    id: str


@dataclass
class Room(aio.Publishable):
    id: str


@dataclass
class PlainRoom(sinapse.publisher.Publishable):
    id: str


def fastapi_app(sinapse: Sinapse) -> FastAPI:
    app = FastAPI(lifespan=sinapse.lifespan)

    @app.get("/page/{name}", response_class=HTMLResponse)
    async def page(name: str) -> str:
        return await sinapse.element(None if name == "nobody" else User(name))

    @app.get("/positioned", response_class=HTMLResponse)
    async def positioned(position: Position, push: Push, again: Position) -> str:
        await push.publish("news", "published by the queries")
        assert again == position
        return await sinapse.element(None, position)

    @app.get("/positioned-token")
    async def positioned_token(position: Position) -> Response:
        return await sinapse.token_response("ada", position)

    @app.api_route("/token/{name}", methods=["GET", "POST"])
    async def token(name: str) -> Response:
        return await sinapse.token_response(None if name == "nobody" else name)

    @app.post("/rooms/{name}")
    async def say(name: str, text: str, push: Push) -> int:
        return await push.publish(Room(name), {"text": text}, event="said")

    @app.post("/mixin/{name}")
    async def mixin(name: str, text: str) -> int:
        return await Room(name).publish(text)

    @app.post("/thread/{name}")
    def thread(name: str, text: str) -> int:
        return PlainRoom(name).publish(text)

    return app


def starlette_app(sinapse: Sinapse) -> Starlette:
    async def page(request: Request) -> Response:
        name = request.path_params["name"]
        return HTMLResponse(await sinapse.element(None if name == "nobody" else User(name)))

    async def token(request: Request) -> Response:
        name = request.path_params["name"]
        return await sinapse.token_response(None if name == "nobody" else name)

    async def positioned(_: Request) -> Response:
        position = await sinapse.position()
        await sinapse.publisher.publish("news", "published by the queries")
        return HTMLResponse(await sinapse.element(None, position))

    async def positioned_token(_: Request) -> Response:
        return await sinapse.token_response("ada", await sinapse.position())

    async def say(request: Request) -> Response:
        room = Room(request.path_params["name"])
        text = {"text": request.query_params["text"]}
        return PlainTextResponse(str(await aio.default().publish(room, text, event="said")))

    return Starlette(
        routes=[
            Route("/page/{name}", page),
            Route("/token/{name}", token, methods=["GET", "POST"]),
            Route("/positioned", positioned),
            Route("/positioned-token", positioned_token),
            Route("/rooms/{name}", say, methods=["POST"]),
        ],
        lifespan=sinapse.lifespan,
    )


APPS = [fastapi_app, starlette_app]


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run an application, with its lifespan, in this event loop."""
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


def within(app: ASGIApp, use: Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]) -> None:
    """Use an application that runs for as long."""

    async def main() -> None:
        async with running(app) as client:
            await use(client)

    asyncio.run(main())


@pytest.mark.parametrize("make", APPS)
def test_the_page_of_a_user_has_url_and_token(
    make: Callable[[Sinapse], ASGIApp], redis_server: RedisServer, daemon: Daemon
) -> None:
    url = f"http://127.0.0.1:{daemon.port}/"

    async def use(client: httpx.AsyncClient) -> None:
        page = (await client.get("/page/ada")).text
        [text] = re.findall(
            r'<script type="application/json" id="sinapse-connection">(.*)</script>', page
        )
        connection = json.loads(text)
        assert connection["url"] == url
        await User("ada").sinapse.add_channel(Room("1"))
        stream = await asyncio.to_thread(lambda: daemon.stream(connection["token"]).opened())
        with stream:
            assert (await client.post("/rooms/1?text=hello")).text == "1"
            message = await asyncio.to_thread(stream.message)
        assert (message.data, message.event) == ('{"text":"hello"}', "said")

    within(make(Sinapse(redis_url=redis_server.url, url=url)), use)


def test_a_page_has_the_url_of_the_stream(redis_server: RedisServer) -> None:
    sinapse = Sinapse(redis_url=redis_server.url, url="/streams/")

    async def use(_: httpx.AsyncClient) -> None:
        token = (await sinapse.connection("ada"))["token"]
        known = f"/streams/?access_token={token}"
        assert await sinapse.stream_url("ada") == known
        assert await sinapse.stream_url("ada", "1-2+3") == f"{known}&lastEventId=1-2%2B3"
        assert await sinapse.stream_url(None, "1-2") is None

    within(fastapi_app(sinapse), use)


def test_type_checkers_know_all_settings() -> None:
    [fault] = faults({"?": 0}, str.lower)  # It names those that there are.
    assert sorted(fault.partition(": ")[2].lower().split(", ")) == sorted(Settings.__annotations__)


def test_a_page_may_import_the_client(redis_server: RedisServer) -> None:
    sinapse = Sinapse(redis_url=redis_server.url)
    app = fastapi_app(sinapse)
    app.add_route("/sinapse.js", sinapse.client_response)

    async def use(client: httpx.AsyncClient) -> None:
        answer = await client.get("/sinapse.js")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/javascript"
        assert answer.content == (script.FOLDER / script.NAME).read_bytes()
        known = {"If-None-Match": answer.headers["ETag"]}
        assert (await client.get("/sinapse.js", headers=known)).status_code == 304

    within(app, use)


def position_in(page: str) -> Any:
    [text] = re.findall(r'id="sinapse-connection">(.*)</script>', page)
    return json.loads(text)["position"]


@pytest.mark.parametrize("make", APPS)
def test_the_position_of_a_page_is_that_of_before_its_queries(
    make: Callable[[Sinapse], ASGIApp], redis_server: RedisServer, publisher: Publisher
) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        before = publisher.position()
        page = await client.get("/positioned")
        assert position_in(page.text) == before
        now = publisher.position()
        assert now != before
        assert (await client.get("/positioned-token")).json()["position"] == now
        assert position_in((await client.get("/page/ada")).text) is None

    within(make(Sinapse(redis_url=redis_server.url)), use)


@pytest.mark.parametrize("make", APPS)
def test_while_redis_is_away_the_position_is_one_that_is_answered_with_reset(
    make: Callable[[Sinapse], ASGIApp],
    daemon: Daemon,
    publisher: Publisher,
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = []

    async def use(client: httpx.AsyncClient) -> None:
        answers.append(await client.get("/positioned-token"))

    sinapse = Sinapse(redis_url=f"redis://127.0.0.1:{free_port()}")
    within(make(sinapse), use)
    assert answers[0].status_code == 503
    assert "a page has no position: Redis at " in caplog.text
    publisher.channels.add("1", "room:1")
    token = publisher.tokens.obtain("1")
    with daemon.stream(token, after=asyncio.run(sinapse.position())).opened() as stream:
        assert stream.next().event == "reset"
        publisher.publish("room:1", "live")
        assert stream.next().data == "live"


@pytest.mark.parametrize("make", APPS)
def test_tokens_are_answered_as_json(
    make: Callable[[Sinapse], ASGIApp], redis_server: RedisServer
) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        answers = [await client.get("/token/ada"), await client.post("/token/ada")]
        token = await aio.default().tokens.get("ada")
        for answer in answers:
            assert answer.json() == {
                "url": "/streams/",
                "token": token,
                "expires_in": 60,
                "position": None,
            }
            assert answer.headers["Cache-Control"] == "no-store"
        nobody = await client.get("/token/nobody")
        assert nobody.status_code == 401
        assert nobody.headers["Cache-Control"] == "no-store"
        assert '"token": null' in (await client.get("/page/nobody")).text

    within(make(Sinapse(redis_url=redis_server.url, url="/streams/", token_lifetime=60)), use)


@pytest.mark.parametrize("make", APPS)
def test_while_redis_is_away_that_is_said(make: Callable[[Sinapse], ASGIApp]) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        answer = await client.get("/token/ada")
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "5"
        page = await client.get("/page/ada")
        assert page.status_code == 200
        assert '"token": null' in page.text

    within(make(Sinapse(redis_url=f"redis://127.0.0.1:{free_port()}")), use)


def devices_of_fastapi(sinapse: Sinapse) -> ASGIApp:
    """Make an application where users log in, and FastAPI's session keeps who they are."""
    app = FastAPI(lifespan=sinapse.lifespan)

    def current_user(request: Request) -> User | None:
        name = request.session.get("user")
        return None if name is None else User(name)

    user = Depends(current_user)

    @app.get("/page", response_class=HTMLResponse)
    async def page(session: PushSession, user: User | None = user) -> str:
        return await sinapse.element(user, None, session)

    @app.get("/token")
    async def token(session: PushSession, user: User | None = user) -> Response:
        return await sinapse.token_response(user, None, session)

    @app.post("/login/{name}")
    async def log_in(name: str, request: Request) -> None:
        request.session["user"] = name

    @app.post("/logout")
    async def log_out(request: Request, session: PushSession) -> bool:
        was_there = await session.log_out()
        request.session.clear()
        return was_there

    @app.post("/password")
    async def new_password(session: PushSession, user: User | None = user) -> int:
        return await session.end_others(user)

    app.add_middleware(SessionMiddleware, secret_key="for tests")
    return app


def devices_of_starlette(sinapse: Sinapse) -> ASGIApp:
    """Make the same of Starlette."""

    def user(request: Request) -> User | None:
        name = request.session.get("user")
        return None if name is None else User(name)

    async def page(request: Request) -> Response:
        session = sinapse.session(request)
        return HTMLResponse(await sinapse.element(user(request), None, session))

    async def token(request: Request) -> Response:
        return await sinapse.token_response(user(request), None, sinapse.session(request))

    async def log_in(request: Request) -> Response:
        request.session["user"] = request.path_params["name"]
        return Response()

    async def log_out(request: Request) -> Response:
        was_there = await sinapse.session(request).log_out()
        request.session.clear()
        return JSONResponse(was_there)

    async def new_password(request: Request) -> Response:
        return JSONResponse(await sinapse.session(request).end_others(user(request)))

    return Starlette(
        routes=[
            Route("/page", page),
            Route("/token", token),
            Route("/login/{name}", log_in, methods=["POST"]),
            Route("/logout", log_out, methods=["POST"]),
            Route("/password", new_password, methods=["POST"]),
        ],
        middleware=[Middleware(SessionMiddleware, secret_key="for tests")],
        lifespan=sinapse.lifespan,
    )


class Browser:
    """One that has loaded pages of an application; each request runs it anew."""

    def __init__(self, app: ASGIApp, name: str, agent: str = "") -> None:
        self.app = app
        self._cookies = httpx.Cookies()
        self._agent = agent
        self.post(f"/login/{name}")

    def request(self, method: str, path: str) -> httpx.Response:
        answers = []

        async def use(client: httpx.AsyncClient) -> None:
            client.cookies = self._cookies
            client.headers["User-Agent"] = self._agent
            answers.append(await client.request(method, path))
            self._cookies = client.cookies

        within(self.app, use)
        return answers[0]

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def post(self, path: str) -> httpx.Response:
        return self.request("POST", path)

    def token(self) -> str:
        """Return the token of the page that it loads."""
        [text] = re.findall(r'id="sinapse-connection">(.*)</script>', self.get("/page").text)
        token = json.loads(text)["token"]
        assert isinstance(token, str)
        return token


Make = Callable[[Sinapse], ASGIApp]


@pytest.mark.parametrize("make", [devices_of_fastapi, devices_of_starlette])
class TestDevices:
    """Each log-in of Starlette has a session of ours."""

    @pytest.fixture(autouse=True)
    def listed(self, publisher: Publisher) -> None:
        for name in ("ada", "bob"):
            publisher.channels.add(name, "news")

    @pytest.fixture
    def app(self, make: Make, redis_server: RedisServer) -> ASGIApp:
        return make(Sinapse(redis_url=redis_server.url))

    def test_of_two_the_one_that_logs_out_ends_alone(
        self, app: ASGIApp, daemon: Daemon, publisher: Publisher
    ) -> None:
        phone, laptop = Browser(app, "ada", "Phone"), Browser(app, "ada", "Laptop")
        with (
            daemon.stream(phone.token()).opened() as first,
            daemon.stream(laptop.token()).opened() as rest,
        ):
            assert [each.device for each in publisher.sessions.list("ada")] == ["Phone", "Laptop"]
            assert phone.post("/logout").json() is True
            first.wait_for_end()
            publisher.publish("news", "hello")
            assert rest.message().data == "hello"
        assert [each.device for each in publisher.sessions.list("ada")] == ["Laptop"]
        assert phone.post("/logout").json() is False

    def test_a_new_password_ends_the_others(
        self, app: ASGIApp, daemon: Daemon, publisher: Publisher
    ) -> None:
        here, there = Browser(app, "ada"), Browser(app, "ada")
        with (
            daemon.stream(here.token()).opened() as rest,
            daemon.stream(there.token()).opened() as ended,
        ):
            assert here.post("/password").json() == 1
            ended.wait_for_end()
            publisher.publish("news", "hello")
            assert rest.message().data == "hello"
        without_page = Browser(app, "ada")
        assert without_page.post("/password").json() == 1
        without_page.post("/logout")
        assert without_page.post("/password").json() == 0

    def test_somebody_else_who_logs_in_ends_it(
        self, app: ASGIApp, daemon: Daemon, publisher: Publisher
    ) -> None:
        browser = Browser(app, "ada")
        with daemon.stream(browser.token()).opened() as stream:
            browser.post("/login/bob")
            of_bob = browser.token()
            stream.wait_for_end()
        assert publisher.sessions.list("ada") == []
        with daemon.stream(of_bob).opened():
            assert browser.token() == of_bob

    def test_all_pages_share_it_and_it_lives_on_with_them(
        self, make: Make, app: ASGIApp, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        browser = Browser(make(Sinapse(redis_url=redis_server.url, token_lifetime=60)), "ada")
        token = browser.token()
        [before] = publisher.sessions.list("ada")
        browser.app = app
        assert browser.get("/token").json()["token"] == browser.token() == token
        [after] = publisher.sessions.list("ada")
        assert (after.expires or 0) > (before.expires or 0) + 3600

    def test_one_that_has_ended_or_expired_gives_way_to_another(
        self, make: Make, redis_server: RedisServer, daemon: Daemon, publisher: Publisher
    ) -> None:
        browser = Browser(make(Sinapse(redis_url=redis_server.url, token_lifetime=1)), "ada")
        with daemon.stream(browser.token()).opened() as stream:
            stream.wait_for_end()
        with daemon.stream(browser.token()).opened() as stream:
            publisher.sessions.end_all("ada")
            stream.wait_for_end()
        with daemon.stream(browser.token()).opened():
            assert len(publisher.sessions.list("ada")) == 1

    def test_with_hashed_tokens_pages_have_push(
        self,
        make: Make,
        redis_server: RedisServer,
        publisher: Publisher,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("SINAPSE_HASH_TOKENS", "1")
        browser = Browser(make(Sinapse(redis_url=redis_server.url)), "ada")
        with (
            running_daemon(tmp_path, redis_server.url, "--hash-tokens") as daemon,
            daemon.stream(browser.token()).opened() as stream,
        ):
            assert browser.get("/token").json()["token"] == browser.token()
            publisher.publish("news", "hello")
            assert stream.message().data == "hello"
            assert browser.post("/logout").json() is True
            stream.wait_for_end()

    def test_redis_that_is_away_keeps_nobody_logged_in(
        self, make: Make, app: ASGIApp, caplog: pytest.LogCaptureFixture
    ) -> None:
        browser = Browser(app, "ada")
        browser.token()
        browser.app = make(Sinapse(redis_url=f"redis://127.0.0.1:{free_port()}"))
        answer = browser.post("/logout")
        assert (answer.status_code, answer.json()) == (200, False)
        assert "The session of a user who logged out is not ended: Redis at" in caplog.text
        assert browser.get("/token").status_code == 401


def test_what_the_page_says_about_log_ins_is_so(
    redis_server: RedisServer,
    daemon: Daemon,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_KEY", "for tests")
    sinapse = Sinapse(redis_url=redis_server.url)
    app = FastAPI(lifespan=sinapse.lifespan)
    names = {
        "app": app,
        "sinapse": sinapse,
        "HTMLResponse": HTMLResponse,
        "Position": Position,
        "check": lambda name, _: name,
        "change_password": lambda *_: None,
    }
    exec(program("howto-fastapi.md", "Log in and log out"), names)  # That is the test.
    publisher.channels.add("ada", "news")

    async def use(here: httpx.AsyncClient) -> None:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://test"
        ) as there:
            tokens = []
            for client in (here, there):
                await client.post("/login", json={"name": "ada", "password": "secret"})
                token = (await client.get("/sinapse/token")).json()["token"]
                assert token in (await client.get("/home")).text
                tokens.append(token)
            with daemon.stream(tokens[0]) as stream, daemon.stream(tokens[1]) as other:
                await asyncio.to_thread(stream.opened)
                await asyncio.to_thread(other.opened)
                await here.post("/password", json={"password": "another"})
                await asyncio.to_thread(other.wait_for_end)
                assert len(publisher.sessions.list("ada")) == 1
                await here.post("/logout")
                await asyncio.to_thread(stream.wait_for_end)
            assert (await here.get("/sinapse/token")).status_code == 401

    within(app, use)


def test_what_the_page_says_about_roles_is_so(
    redis_server: RedisServer, publisher: Publisher
) -> None:
    sinapse = Sinapse(redis_url=redis_server.url)
    app = FastAPI(lifespan=sinapse.lifespan)
    roles: set[tuple[str, str]] = set()

    async def save_role(user: str, role: str) -> None:
        roles.add((user, role))

    async def drop_role(user: str, role: str) -> None:
        roles.remove((user, role))

    names = {"app": app, "save_role": save_role, "drop_role": drop_role}
    exec(program("howto-fastapi.md", "Roles"), names)  # That is the test.

    async def use(client: httpx.AsyncClient) -> None:
        assert (await client.put("/roles/editor/channels/drafts")).status_code == 204
        assert publisher.groups.channels("role:editor").list() == {"drafts"}
        assert (await client.put("/users/ada/roles/editor")).status_code == 204
        assert roles == {("ada", "editor")}
        assert publisher.groups.members("role:editor") == ["ada"]
        assert (await client.delete("/users/ada/roles/editor")).status_code == 204
        assert roles == set()
        assert publisher.groups.members("role:editor") == []

    within(app, use)


@pytest.mark.parametrize("scope", [{}, {"session": {}}], ids=["no middleware", "nothing kept"])
def test_a_user_who_has_not_logged_in_has_no_session(
    redis_server: RedisServer, publisher: Publisher, scope: dict[str, object]
) -> None:
    """As one whom a key names that each request has: it would be a session for each."""
    sinapse = Sinapse(redis_url=redis_server.url)

    async def main() -> None:
        async with sinapse.lifespan():
            session = sinapse.session(HTTPConnection({"type": "http", "headers": [], **scope}))
            connection = await sinapse.connection(User("ada"), None, session)
            assert connection["token"] == await sinapse.publisher.tokens.get("ada")
            assert await session.log_out() is False
            await sinapse.publisher.sessions.open("ada")
            assert await session.end_others("ada") == 1

    asyncio.run(main())
    assert publisher.sessions.list("ada") == []


@pytest.mark.parametrize("make", APPS)
def test_where_tokens_are_hashed_a_page_without_a_session_is_shown_without_push(
    redis_server: RedisServer,
    make: Callable[[Sinapse], ASGIApp],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SINAPSE_HASH_TOKENS", "1")

    async def use(client: httpx.AsyncClient) -> None:
        assert [(await client.get("/page/ada")).status_code for _ in range(2)] == [200, 200]

    within(make(Sinapse(redis_url=redis_server.url)), use)


def test_mixins_and_threads_publish_as_the_settings_say(
    redis_server: RedisServer, daemon: Daemon, publisher: Publisher
) -> None:
    for room in ("room:1", "plain_room:1"):
        publisher.channels.add("ada", room)

    async def use(client: httpx.AsyncClient) -> None:
        assert (await client.post("/mixin/1?text=a")).text == "1"
        assert (await client.post("/thread/1?text=b")).text == "1"

    with daemon.stream(publisher.tokens.generate("ada")).opened() as stream:
        within(fastapi_app(Sinapse(redis_url=redis_server.url)), use)
        assert [stream.message().data for _ in range(2)] == ["a", "b"]


def test_the_lifespan_closes_what_it_opened_and_leaves_the_defaults_as_they_were(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://environment.example")
    for module in (aio, sinapse.publisher):
        module.use(None)

    async def use(client: httpx.AsyncClient) -> None:
        assert str(aio.default().url) == str(sinapse.publisher.default().url) == redis_server.url
        await client.post("/mixin/1?text=a")
        await client.post("/thread/1?text=b")

    with redis_server.client() as client:
        before = len(client.client_list())
        within(fastapi_app(Sinapse(redis_url=redis_server.url)), use)
        assert len(client.client_list()) == before
    for module in (aio, sinapse.publisher):
        assert module.default().url.host == "environment.example"
        module.use(None)


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_applications_each_has_its_own_and_gives_back_the_others(
    redis_server: RedisServer, tmp_path: Path, first: int
) -> None:
    with running_redis(tmp_path) as another:
        urls = [redis_server.url, another.url]
        apps = [fastapi_app(Sinapse(redis_url=url)) for url in urls]

        async def main() -> None:
            clients, ends = [], []
            for app in apps:
                stack = AsyncExitStack()
                clients.append(await stack.enter_async_context(running(app)))
                ends.append(stack.aclose)
            for url, client in zip(urls, clients, strict=True):
                token = (await client.get("/token/ada")).json()["token"]
                with Publisher(url) as publisher:
                    assert publisher.tokens.get("ada") == token
            await ends[first]()
            left = 1 - first
            assert str(aio.default().url) == str(sinapse.publisher.default().url) == urls[left]
            assert (await clients[left].post("/rooms/1?text=hello")).status_code == 200
            await ends[left]()

        asyncio.run(main())


def test_one_that_is_mounted_has_its_own_without_a_lifespan(
    redis_server: RedisServer, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    mine = Sinapse(redis_url=redis_server.url)
    mounted = fastapi_app(mine)
    mounted.dependency_overrides[dependency] = lambda: mine.publisher
    outer = FastAPI()
    outer.mount("/sub", mounted)

    async def use(client: httpx.AsyncClient) -> None:
        token = (await client.get("/sub/token/ada")).json()["token"]
        assert publisher.tokens.get("ada") == token
        assert (await client.post("/sub/rooms/1?text=hello")).text == "0"

    within(outer, use)


class WithIdentity(BaseUser):
    is_authenticated = True
    identity = "7"


@pytest.mark.parametrize(
    ("user", "kind", "name"),
    [
        (SimpleUser("ada"), "SimpleUser", "ada"),
        (WithIdentity(), "WithIdentity", "7"),
        (UnauthenticatedUser(), "", ""),
    ],
)
def test_users_of_starlette_are_subjects_or_visitors(
    redis_server: RedisServer, publisher: Publisher, user: BaseUser, kind: str, name: str
) -> None:
    sinapse = Sinapse(redis_url=redis_server.url)

    async def token(_: Request) -> Response:
        return await sinapse.token_response(user)

    async def use(client: httpx.AsyncClient) -> None:
        answer = await client.get("/")
        assert answer.status_code == (200 if kind else 401)
        if kind:
            assert publisher.tokens.get(name, kind) == answer.json()["token"]

    within(Starlette(routes=[Route("/", token)], lifespan=sinapse.lifespan), use)


def test_where_tokens_are_hashed_the_view_says_that_nobody_knows_them(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SINAPSE_HASH_TOKENS", "1")

    async def use(client: httpx.AsyncClient) -> None:
        answer = await client.get("/token/ada")
        assert (answer.status_code, answer.json()) == (409, {"error": HASHED})

    within(fastapi_app(Sinapse(redis_url=redis_server.url)), use)


def test_an_application_can_be_started_again(redis_server: RedisServer) -> None:
    app = fastapi_app(Sinapse(redis_url=redis_server.url))

    async def use(client: httpx.AsyncClient) -> None:
        assert (await client.post("/rooms/1?text=hello")).status_code == 200

    within(app, use)
    within(app, use)


def test_the_dependency_can_be_overridden(redis_server: RedisServer) -> None:
    app = fastapi_app(Sinapse(redis_url=redis_server.url))

    class Silent:
        async def publish(self, *_: object, **__: object) -> int:
            return 7

    app.dependency_overrides[dependency] = Silent

    async def use(client: httpx.AsyncClient) -> None:
        assert (await client.post("/rooms/1?text=hello")).text == "7"

    within(app, use)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"retian": 1}, "retian is not known: did you mean retain?"),
        ({"retain": "60"}, "retain must be a number of seconds, not '60'"),
        ({"url": "push.example"}, "url must be like https://push.example/"),
        ({"redis_url": "redis://u:hid/den@a.example"}, "redis_url cannot be read"),
        (
            {"redis_url": "http+sinapse://key@a.example"},
            "the API is for sinapse.publisher.Publisher",
        ),
    ],
)
def test_bad_settings_are_told_when_the_application_is_made(settings: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(fault)}") as told:
        Sinapse(**settings)
    assert "hid" not in str(told.value)


@pytest.mark.parametrize("name", ["REDIS_URL", "SINAPSE_URL", "SINAPSE_RETAIN"])
def test_a_bad_environment_is_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "nothing good")
    with pytest.raises(ValueError, match=f"^{name} "):
        Sinapse()
