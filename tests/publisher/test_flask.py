"""The extension for Flask, in applications that are made for each test."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask, render_template_string, request, session
from flask.testing import FlaskClient
from werkzeug.local import LocalProxy

from sinapse.protocol.message import unpack
from sinapse.publisher import Publishable, Publisher, Subject, default, defaults, use
from sinapse.publisher.apiurl import APIURL
from sinapse.publisher.flask import Sinapse
from sinapse.publisher.frameworks import script
from sinapse.publisher.frameworks.page import HASHED
from sinapse.testing import capture
from tests.support import RedisServer, free_port
from tests.support.daemon import Daemon, running_daemon
from tests.support.listening import Listener
from tests.support.walkthrough import program


@dataclass
class User(Subject):
    id: str


@dataclass
class Room(Publishable):
    id: str


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave the process's default as it was."""
    former = use(None)
    yield
    defaults.configure(None)
    use(former)


def page_of(name: str) -> str:
    return render_template_string("{{ sinapse_connection(name) }}", name=name)


def create_app(redis_url: str, **config: object) -> Flask:
    """Make an application whose users say who they are."""
    sinapse = Sinapse()

    @sinapse.subject_loader
    def subject() -> object:
        return session.get("user") and User(session["user"])

    app = Flask(__name__)
    app.config.update({"SECRET_KEY": "for tests", "SINAPSE_REDIS_URL": redis_url, **config})
    sinapse.init_app(app)
    app.add_url_rule("/token", view_func=sinapse.token_view, methods=["GET", "POST"])

    @app.get("/positioned")
    @sinapse.with_position
    def positioned() -> str:
        sinapse.publish("room:1", "published by the queries")
        return render_template_string("{{ sinapse_connection() }}")

    @app.get("/awaited")
    @sinapse.with_position
    async def awaited() -> str:
        sinapse.publish("room:1", "published by the queries")
        return render_template_string("{{ sinapse_connection() }}")

    @app.get("/page")
    def page() -> str:
        return render_template_string("{{ sinapse_connection() }}")

    @app.post("/session/<name>")
    def sign_in(name: str) -> str:
        session["user"] = name
        return ""

    @app.post("/logout")
    def log_out() -> str:
        was_there = sinapse.log_out()
        session.clear()
        return str(was_there)

    app.add_url_rule("/of/<name>", view_func=page_of)
    app.add_url_rule(
        "/password", view_func=lambda: str(sinapse.end_other_sessions()), methods=["POST"]
    )

    @app.post("/rooms/<name>")
    def say(name: str) -> str:
        return str(Room(name).publish(request.get_json(), event="said"))

    @app.post("/news")
    def news() -> str:
        return str(sinapse.publish("news", request.get_data()))

    return app


@pytest.fixture
def app(redis_server: RedisServer) -> Iterator[Flask]:
    app = create_app(redis_server.url)
    yield app
    with app.app_context():
        default().close()


def test_where_tokens_are_hashed_the_view_says_that_nobody_knows_them(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SINAPSE_HASH_TOKENS", "1")
    """Where Flask keeps nothing, as for a user whom a key names that each request has."""
    app = Flask(__name__)
    app.config["SINAPSE_REDIS_URL"] = redis_server.url
    sinapse = Sinapse(app)
    sinapse.subject_loader(lambda: request.headers.get("X-User"))
    app.add_url_rule("/token", view_func=sinapse.token_view)
    app.add_url_rule("/page", view_func=sinapse.element)
    client = app.test_client()
    for _ in range(2):
        answer = client.get("/token", headers={"X-User": "ada"})
    assert (answer.status_code, answer.get_json()) == (409, {"error": HASHED})
    assert connection_in(client.get("/page", headers={"X-User": "ada"}).text)["token"] is None


def test_its_pages_are_its_own_whoever_else_is_configured(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    client = create_app(redis_server.url).test_client()
    elsewhere = defaults.Once(lambda: Publisher(f"redis://127.0.0.1:{free_port()}"))
    defaults.configure(elsewhere)  # As Celery's may be.
    try:
        client.post("/session/ada")
        token = client.get("/token").get_json()["token"]
        assert redis_client.get(f"sinapse:tokens:{token}") == b"ada"
    finally:
        defaults.withdraw(elsewhere)


@pytest.mark.parametrize("url", ["http+sinapse://key@push.example:9002", "https+sinapse://k@h"])
def test_the_api_may_take_the_place_of_redis(url: str) -> None:
    app = create_app(url)
    with app.app_context():
        assert default().url == APIURL.parse(url)


def test_the_page_of_a_user_has_url_and_token(redis_server: RedisServer, daemon: Daemon) -> None:
    app = create_app(redis_server.url, SINAPSE_URL=f"http://127.0.0.1:{daemon.port}/")
    client = app.test_client()
    client.post("/session/ada")
    connection = connection_in(client.get("/page").text)
    assert connection["url"] == f"http://127.0.0.1:{daemon.port}/"
    with app.app_context():
        User("ada").sinapse.add_channel(Room("1"))
    with daemon.stream(connection["token"]).opened() as stream:
        assert client.post("/rooms/1", json={"text": "hello"}).text == "1"
        message = stream.message()
        assert (message.data, message.event) == ('{"text":"hello"}', "said")


def test_a_template_has_the_url_of_the_stream(app: Flask) -> None:
    @app.get("/url")
    def url() -> str:
        return render_template_string("{{ sinapse_stream_url() }}")

    client = app.test_client()
    assert client.get("/url").text == "None"
    client.post("/session/ada")
    token = client.get("/token").get_json()["token"]
    assert client.get("/url").text == f"http://localhost:9000/?access_token={token}"


def test_a_template_has_the_url_of_the_client(app: Flask) -> None:
    @app.get("/client")
    def url() -> str:
        return render_template_string("{{ sinapse_client() }}")

    client = app.test_client()
    path = client.get("/client").text
    with client.get(path) as answer:
        assert answer.status_code == 200
        assert answer.mimetype == "text/javascript"
        assert answer.data == (script.FOLDER / script.NAME).read_bytes()
        known = {"If-None-Match": answer.headers["ETag"]}
    with client.get(path, headers=known) as again:
        assert again.status_code == 304


def connection_in(page: str) -> Any:
    [text] = re.findall(
        r'<script type="application/json" id="sinapse-connection">(.*)</script>', page
    )
    return json.loads(text)


def test_each_request_has_a_position_of_its_own(app: Flask) -> None:
    with app.app_context():  # As tests of applications have it, for several requests.
        first, second = (
            connection_in(app.test_client().get("/positioned").text)["position"] for _ in range(2)
        )
    assert first != second


@pytest.mark.parametrize("path", ["/positioned", "/awaited"])
def test_the_position_of_a_page_is_that_of_before_its_view(
    app: Flask, publisher: Publisher, path: str
) -> None:
    before = publisher.position()
    assert connection_in(app.test_client().get(path).text)["position"] == before
    assert publisher.position() != before
    assert connection_in(app.test_client().get("/page").text)["position"] is None


def test_while_redis_is_away_the_position_is_one_that_is_answered_with_reset(
    daemon: Daemon, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(f"redis://127.0.0.1:{free_port()}")
    sinapse = Sinapse(app)

    @app.get("/shown")
    @sinapse.with_position
    def shown() -> str:
        return render_template_string("{{ sinapse_connection() }}")

    answer = app.test_client().get("/shown")
    assert answer.status_code == 200
    assert "a page has no position: Redis at " in caplog.text
    publisher.channels.add("1", "room:1")
    token = publisher.tokens.obtain("1")
    with daemon.stream(token, after=connection_in(answer.text)["position"]).opened() as stream:
        assert stream.next().event == "reset"
        publisher.publish("room:1", "live")
        assert stream.next().data == "live"


def test_the_page_of_a_visitor_has_no_token(app: Flask) -> None:
    assert '"token": null' in app.test_client().get("/page").text


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_view_gives_the_same(redis_server: RedisServer, method: str) -> None:
    app = create_app(redis_server.url, SINAPSE_URL="/streams/", SINAPSE_TOKEN_LIFETIME=60)
    client = app.test_client()
    client.post("/session/ada")
    answer = client.open("/token", method=method)
    assert answer.status_code == 200
    with app.app_context(), default() as publisher:
        position = publisher.position()
    assert answer.json == {
        "url": "/streams/",
        "token": token_of(client),
        "expires_in": 60,
        "position": position,
    }
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Cookie" in answer.headers["Vary"]


def test_the_view_gives_nobody_anything(app: Flask) -> None:
    answer = app.test_client().get("/token")
    assert answer.status_code == 401
    assert answer.headers["Cache-Control"] == "no-store"


def test_while_redis_is_away_the_view_says_so() -> None:
    client = create_app(f"redis://127.0.0.1:{free_port()}").test_client()
    client.post("/session/ada")
    answer = client.get("/token")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"


def test_while_redis_is_away_the_page_is_shown_without_push(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = create_app(f"redis://127.0.0.1:{free_port()}").test_client()
    client.post("/session/ada")
    answer = client.get("/page")
    assert answer.status_code == 200
    assert '"token": null' in answer.text
    assert "a page goes without push: Redis at " in caplog.text


def logged_in(app: Flask, name: str, agent: str = "") -> FlaskClient:
    """Return the browser of somebody who has logged in."""
    client = app.test_client()
    client.environ_base["HTTP_USER_AGENT"] = agent
    client.post(f"/session/{name}")
    return client


def token_of(client: FlaskClient) -> str:
    """Return the token of the page that a browser loads."""
    token = connection_in(client.get("/page").text)["token"]
    assert isinstance(token, str)
    return token


class TestDevices:
    """Each log-in of Flask has a session of ours."""

    @pytest.fixture(autouse=True)
    def listed(self, publisher: Publisher) -> None:
        for name in ("ada", "bob"):
            publisher.channels.add(name, "news")

    def test_of_two_the_one_that_logs_out_ends_alone(
        self, app: Flask, daemon: Daemon, publisher: Publisher
    ) -> None:
        phone, laptop = logged_in(app, "ada", "Phone"), logged_in(app, "ada", "Laptop")
        with (
            daemon.stream(token_of(phone)).opened() as first,
            daemon.stream(token_of(laptop)).opened() as rest,
        ):
            assert [each.device for each in publisher.sessions.list("ada")] == ["Phone", "Laptop"]
            assert phone.post("/logout").text == "True"
            first.wait_for_end()
            publisher.publish("news", "hello")
            assert rest.message().data == "hello"
        assert [each.device for each in publisher.sessions.list("ada")] == ["Laptop"]
        assert phone.post("/logout").text == "False"

    def test_a_new_password_ends_the_others(
        self, app: Flask, daemon: Daemon, publisher: Publisher
    ) -> None:
        here, there = logged_in(app, "ada"), logged_in(app, "ada")
        with (
            daemon.stream(token_of(here)).opened() as rest,
            daemon.stream(token_of(there)).opened() as ended,
        ):
            assert here.post("/password").text == "1"
            ended.wait_for_end()
            publisher.publish("news", "hello")
            assert rest.message().data == "hello"
        without_page = logged_in(app, "ada")
        assert without_page.post("/password").text == "1"
        assert app.test_client().post("/password").text == "0"

    def test_somebody_else_who_logs_in_ends_it(
        self, app: Flask, daemon: Daemon, publisher: Publisher
    ) -> None:
        client = logged_in(app, "ada")
        with daemon.stream(token_of(client)).opened() as stream:
            client.post("/session/bob")
            of_bob = token_of(client)
            stream.wait_for_end()
        assert publisher.sessions.list("ada") == []
        with daemon.stream(of_bob).opened():
            assert token_of(client) == of_bob

    def test_all_pages_share_it_and_it_lives_on_with_them(
        self, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        app = create_app(redis_server.url, SINAPSE_TOKEN_LIFETIME=60)
        client = logged_in(app, "ada")
        token = token_of(client)
        [before] = publisher.sessions.list("ada")
        app.extensions["sinapse"] = create_app(redis_server.url).extensions["sinapse"]
        assert client.get("/token").get_json()["token"] == token_of(client) == token
        [after] = publisher.sessions.list("ada")
        assert (after.expires or 0) > (before.expires or 0) + 3600

    def test_one_that_has_ended_or_expired_gives_way_to_another(
        self, redis_server: RedisServer, daemon: Daemon, publisher: Publisher
    ) -> None:
        client = logged_in(create_app(redis_server.url, SINAPSE_TOKEN_LIFETIME=1), "ada")
        with daemon.stream(token_of(client)).opened() as stream:
            stream.wait_for_end()
        with daemon.stream(token_of(client)).opened() as stream:
            publisher.sessions.end_all("ada")
            stream.wait_for_end()
        with daemon.stream(token_of(client)).opened():
            assert len(publisher.sessions.list("ada")) == 1

    def test_what_is_kept_changes_only_when_it_is_opened(self, app: Flask) -> None:
        """A browser keeps what the last answer said, whatever others have said before it."""
        client = logged_in(app, "ada")
        token_of(client)
        assert "Set-Cookie" not in client.get("/page").headers

    def test_another_subject_than_the_user_has_none(self, app: Flask, publisher: Publisher) -> None:
        client = logged_in(app, "ada")
        token = connection_in(client.get("/of/visitor").text)["token"]
        assert publisher.tokens.get("visitor") == token
        assert publisher.sessions.list("visitor") == []
        assert connection_in(client.get("/of/ada").text)["token"] == token_of(client)

    def test_what_is_kept_by_others_is_none_of_ours(self, app: Flask) -> None:
        client = logged_in(app, "ada")
        for kept in ("text", {"subject": "ada"}, {"subject": "ada", "id": 7, "token": "x"}):
            with client.session_transaction() as changed:
                changed["_sinapse"] = kept
            assert len(token_of(client)) == 88

    def test_with_hashed_tokens_pages_have_push(
        self, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SINAPSE_HASH_TOKENS", "1")
        client = logged_in(create_app(redis_server.url), "ada")
        with (
            running_daemon(tmp_path, redis_server.url, "--hash-tokens") as daemon,
            daemon.stream(token_of(client)).opened() as stream,
        ):
            assert client.get("/token").get_json()["token"] == token_of(client)
            client.post("/news", data=b"hello")
            assert stream.message().data == "hello"
            assert client.post("/logout").text == "True"
            stream.wait_for_end()

    def test_the_api_may_take_the_place_of_redis(
        self, redis_server: RedisServer, tmp_path: Path
    ) -> None:
        keys, port = tmp_path / "keys", free_port()
        keys.write_text("k" * 32)
        app = create_app(f"http+sinapse://{'k' * 32}@127.0.0.1:{port}")
        api = ("--api", f"tcp:{port}:interface=127.0.0.1", "--api-keys", str(keys))
        with running_daemon(tmp_path, redis_server.url, *api) as daemon:
            client = logged_in(app, "ada", "Phone")
            with daemon.stream(token_of(client)).opened() as stream:
                assert client.get("/token").get_json()["token"] == token_of(client)
                assert client.post("/logout").text == "True"
                stream.wait_for_end()
            with app.app_context():
                default().close()

    def test_tests_of_applications_need_no_redis_for_it(self) -> None:
        app = create_app(f"redis://127.0.0.1:{free_port()}")
        with capture():
            client = logged_in(app, "ada")
            assert client.get("/token").get_json()["token"] == token_of(client)
            assert client.post("/logout").text == "True"

    def test_redis_that_is_away_keeps_nobody_logged_in(
        self, app: Flask, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = logged_in(app, "ada")
        token_of(client)
        away = create_app(f"redis://127.0.0.1:{free_port()}").extensions["sinapse"]
        app.extensions["sinapse"] = away
        answer = client.post("/logout")
        assert (answer.status_code, answer.text) == (200, "False")
        assert "The session of a user who logged out is not ended: Redis at" in caplog.text
        assert client.get("/token").status_code == 401


@pytest.mark.parametrize("subject", ["7", 7, LocalProxy(lambda: User("7"))])
def test_a_subject_may_be_an_id_or_a_proxy(
    redis_server: RedisServer, publisher: Publisher, subject: object
) -> None:
    app = Flask(__name__)
    app.config["SINAPSE_REDIS_URL"] = redis_server.url
    sinapse = Sinapse(app)
    sinapse.subject_loader(lambda: subject)
    with app.app_context():
        assert sinapse.connection()["token"] == publisher.tokens.get("7")
        assert sinapse.connection("8")["token"] == publisher.tokens.get("8")
        sinapse.publisher.close()


def test_what_the_page_says_about_log_ins_is_so(
    redis_server: RedisServer, daemon: Daemon, publisher: Publisher
) -> None:
    app = Flask(__name__)
    app.config.update(SECRET_KEY="for tests", SINAPSE_REDIS_URL=redis_server.url)
    sinapse = Sinapse(app)
    passwords = {"ada": "secret"}

    def check(name: str, password: str) -> str:
        assert passwords[name] == password
        return name

    names = {
        "app": app,
        "sinapse": sinapse,
        "check": check,
        "change_password": passwords.__setitem__,
    }
    exec(program("howto-flask.md", "Log in and log out"), names)  # That is the test.
    app.add_url_rule("/page", view_func=sinapse.element)
    publisher.channels.add("ada", "news")
    here, there = app.test_client(), app.test_client()
    for client in (here, there):
        client.post("/login", data={"name": "ada", "password": "secret"})
    with (
        daemon.stream(token_of(here)).opened() as stream,
        daemon.stream(token_of(there)).opened() as other,
    ):
        here.post("/password", data={"password": "another"})
        other.wait_for_end()
        assert len(publisher.sessions.list("ada")) == 1
        here.post("/logout")
        stream.wait_for_end()
    assert connection_in(here.get("/page").text)["token"] is None


def test_what_the_page_says_about_roles_is_so(
    redis_server: RedisServer, daemon: Daemon, publisher: Publisher
) -> None:
    app = Flask(__name__)
    app.config.update(SINAPSE_REDIS_URL=redis_server.url)
    roles: set[tuple[str, str]] = set()
    names = {
        "app": app,
        "sinapse": Sinapse(app),
        "save_role": lambda user, role: roles.add((user, role)),
        "drop_role": lambda user, role: roles.remove((user, role)),
    }
    exec(program("howto-flask.md", "Roles"), names)  # That is the test.
    assert publisher.groups.channels("role:editor").list() == {"drafts"}
    client = app.test_client()
    publisher.channels.add("ada", "news")
    with daemon.stream(publisher.tokens.generate("ada")).opened() as stream:
        assert client.put("/users/ada/roles/editor").status_code == 204
        assert roles == {("ada", "editor")}
        publisher.publish("drafts", "heard")
        assert stream.message().data == "heard"
        assert client.delete("/users/ada/roles/editor").status_code == 204
        assert roles == set()
        publisher.publish("drafts", "unheard")
        publisher.publish("news", "end")
        assert stream.message().data == "end"
    assert publisher.groups.members("role:editor") == []


def test_what_the_page_on_visitors_says_is_so(
    redis_server: RedisServer,
    daemon: Daemon,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_KEY", "for tests")
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    owners: dict[int, str] = {}

    def create_cart() -> int:
        owners[7] = session["visitor"]
        return 7

    def assign_cart(guest: str, user: str) -> int | None:
        found = next((cart for cart, owner in owners.items() if owner == guest), None)
        if found is not None:
            owners[found] = user
        return found

    names: dict[str, Any] = {
        "__name__": __name__,
        "create_cart": create_cart,
        "assign_cart": assign_cart,
    }
    for title in (
        "Each has something of their own",
        "All hear the same",
        "When a visitor logs in",
        "What stays behind",
    ):
        exec(program("howto-visitors.md", title), names)  # That is the test.
    app: Flask = names["app"]
    app.add_url_rule("/login", view_func=lambda: names["log_in"]("ada") or "")
    publisher.groups.channels("everybody").add("news")

    one, other = app.test_client(), app.test_client()
    with (
        daemon.stream(connection_in(one.get("/").text)["token"]).opened() as stream,
        daemon.stream(connection_in(other.get("/").text)["token"]).opened() as another,
    ):
        first, second = sorted(publisher.groups.members("everybody"))
        assert first != second
        assert one.post("/cart").json == {"cart": 7}
        publisher.publish("cart:7", "for one")
        publisher.publish("news", "for all")
        assert [stream.message().data for _ in range(2)] == ["for one", "for all"]
        assert another.message().data == "for all"

        assert one.get("/").status_code == 200
        one.get("/login")
        stream.wait_for_end()
        assert owners == {7: "ada"}
        with daemon.stream(connection_in(one.get("/").text)["token"]).opened() as of_ada:
            publisher.publish("cart:7", "for ada")
            assert of_ada.message().data == "for ada"
        [left] = publisher.groups.members("everybody")
        assert left in {first, second}

        with app.app_context():
            names["forget_those_who_are_gone"]()
            assert publisher.groups.members("everybody") == [left]  # Is there.
            publisher.sessions.end_all(left)
            names["forget_those_who_are_gone"]()
            assert publisher.groups.members("everybody") == []
        other.get("/")  # Comes back with the same cookie.
        assert publisher.groups.members("everybody") == [left]

    publisher.channels.add("visitors", "news")
    answers = [app.test_client().get("/sinapse/visitors") for _ in range(2)]
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}
    [shared] = {answer.json["token"] for answer in answers if answer.json is not None}
    with daemon.stream(shared).opened() as of_all:
        publisher.publish("news", "for visitors")
        assert of_all.message().data == "for visitors"
    with app.app_context():
        names["sinapse"].publisher.close()


def test_what_it_says_of_doing_it_by_hand_is_so(
    redis_server: RedisServer, publisher: Publisher
) -> None:
    text = program("howto-visitors.md", "Elsewhere")
    names: dict[str, Any] = {}
    exec(text.replace("redis://localhost:6379/0", redis_server.url), names)  # That is the test.
    kept: dict[str, str] = {}
    token = names["token_of"]("visitor:1", kept)
    assert names["token_of"]("visitor:1", kept) == token
    publisher.sessions.end_all("visitor:1")
    assert names["token_of"]("visitor:1", kept) != token
    names["publisher"].close()


def test_names_and_bytes_can_be_published(app: Flask, listener: Listener) -> None:
    assert app.test_client().post("/news", data=b"hello").text == "1"  # The listener.
    [(channel, payload)] = listener.heard()
    assert (channel, unpack(payload).data) == ("news", "hello")


def test_each_application_has_its_redis(redis_server: RedisServer) -> None:
    urls = [redis_server.url.removesuffix("0") + db for db in "12"]
    first, second = (create_app(url) for url in urls)
    assert str(default().url) == urls[1]
    for app, url in ((first, urls[0]), (second, urls[1])):
        with app.app_context():
            assert str(default().url) == url
            assert default() is default()
            default().close()


def test_one_that_was_chosen_comes_first(app: Flask, publisher: Publisher) -> None:
    use(publisher)
    with app.app_context():
        assert default() is publisher
    use(None)
    with app.app_context():
        assert default() is not publisher


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"SINAPSE_RETIAN": 1}, "SINAPSE_RETIAN is not known: did you mean SINAPSE_RETAIN?"),
        ({"SINAPSE_RETAIN": "60"}, "SINAPSE_RETAIN must be a number of seconds, not '60'"),
        ({"SINAPSE_MAX_MESSAGE": -1}, "SINAPSE_MAX_MESSAGE must be 1 to"),
        ({"SINAPSE_PREFIX": "a b"}, "SINAPSE_PREFIX must be 1 to 64 printable ASCII characters"),
        ({"SINAPSE_URL": "push.example"}, "SINAPSE_URL must be like https://push.example/"),
        ({"SINAPSE_REDIS_URL": "redis://u:hid/den@a.example"}, "SINAPSE_REDIS_URL cannot be read"),
    ],
)
def test_bad_settings_are_told_when_the_application_is_made(
    config: dict[str, object], fault: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(fault)}") as told:
        create_app("redis://localhost", **config)
    assert "hid" not in str(told.value)


@pytest.mark.parametrize("name", ["REDIS_URL", "SINAPSE_URL", "SINAPSE_RETAIN", "SINAPSE_PREFIX"])
def test_a_bad_environment_is_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "nothing good")
    with pytest.raises(ValueError, match=f"^{name} "):
        Sinapse(Flask(__name__))


def test_without_settings_the_environment_decides(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    monkeypatch.setenv("SINAPSE_URL", "https://push.example")
    app = Flask(__name__)
    sinapse = Sinapse(app)
    with app.app_context():
        assert str(sinapse.publisher.url) == redis_server.url
        assert sinapse.connection()["url"] == "https://push.example/"


@pytest.mark.parametrize("name", ["setting", "environment", "URL"])
def test_it_publishes_under_its_prefix(
    redis_server: RedisServer,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    url, config = redis_server.url, {}
    if name == "setting":
        config = {"SINAPSE_PREFIX": "staging:"}
    elif name == "environment":
        monkeypatch.setenv("SINAPSE_PREFIX", "staging:")
    else:
        url += "?prefix=staging:"
    with create_app(url, **config).app_context():
        default().publish("news", "hello")
    assert redis_client.keys("*news") == [b"staging:sinapse:retained:news"]


def test_several_redis_can_be_named() -> None:
    app = create_app("redis://a.example redis://:secret@b.example")
    with app.app_context():
        assert len(default().urls) == 2
    assert "secret" not in repr(app.extensions["sinapse"].options)


class TestCommands:
    def run(self, app: Flask, *arguments: str) -> Any:
        return app.test_cli_runner().invoke(args=["sinapse", *arguments])

    def test_publish(self, app: Flask, listener: Listener) -> None:
        result = self.run(app, "publish", "news", "hello", "--event", "greeting")
        assert result.exit_code == 0
        assert "1 daemon(s) heard it." in result.output
        [(channel, payload)] = listener.heard()
        assert (channel, unpack(payload)[:2]) == ("news", ("hello", "greeting"))

    def test_what_new_streams_get(
        self, app: Flask, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        self.run(app, "publish", "news", "a", "--replay", "2", "--retain-messages", "9")
        assert redis_client.hget("sinapse:replay", "news") == b"2"
        with app.app_context():
            published = Sinapse().publish("news", "b", replay="all")
        assert published.id == publisher.position()
        assert redis_client.hget("sinapse:replay", "news") == b"all"
        result = self.run(app, "publish", "news", "a", "--replay", "some")
        assert result.output.startswith("Error: replay is a whole number")

    def test_token(self, app: Flask, publisher: Publisher) -> None:
        token = self.run(app, "token", "ada").output.strip()
        assert publisher.tokens.get("ada") == token
        assert self.run(app, "token", "ada", "--expires-in", "9").output.strip() == token
        assert self.run(app, "token", "ada", "--new").output.strip() != token
        other = self.run(app, "token", "ada", "--kind", "Device").output.strip()
        assert publisher.tokens.get("ada", "Device") == other

    @pytest.mark.parametrize(
        "arguments", [("publish", "sinapse:x", "hello"), ("token", "ada", "--expires-in", "-1")]
    )
    def test_errors_are_one_line(self, app: Flask, arguments: tuple[str, ...]) -> None:
        result = self.run(app, *arguments)
        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert result.output.count("\n") == 1


def test_what_is_in_a_page_cannot_leave_its_element() -> None:
    from sinapse.publisher.frameworks import page

    content: page.Connection = {
        "url": "/</script>&'",
        "token": None,
        "expires_in": None,
        "position": "<",
    }
    element = page.element(content)
    assert element.count("<") == 2
    text = element.partition(">")[2].partition("<")[0]
    assert json.loads(text) == content


def test_where_nobody_develops_no_daemon_starts_and_the_first_request_says_so(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(redis_server.url, SINAPSE_AUTOSTART=True)
    client = app.test_client()
    client.get("/page")
    client.get("/page")
    assert [each.getMessage() for each in caplog.records] == [
        (
            "SINAPSE_AUTOSTART starts no daemon here: it is for manage.py runserver with DEBUG, "
            "flask run --debug, uvicorn --reload, fastapi dev"
        )
    ]
    caplog.clear()
    tested = create_app(redis_server.url, SINAPSE_AUTOSTART=True, TESTING=True)
    tested.test_client().get("/page")
    assert caplog.records == []
    with app.app_context():
        default().close()
    with tested.app_context():
        default().close()
