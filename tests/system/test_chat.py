"""The example chat: the application's side, through Flask's client, with a real Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from example.chat import LARGEST_REQUEST, MOST_ROOMS, create_app
from sinapse.protocol.message import unpack
from sinapse.publisher import Publisher, use
from tests.support import EVENT_TIMEOUT, RedisServer, free_port
from tests.support.listening import is_for_nodes

NewUser = Callable[[str], FlaskClient]

LOBBY = "/rooms/lobby"
HELP = "/rooms/help"


@pytest.fixture
def app(redis_server: RedisServer) -> Iterator[Flask]:
    with Publisher(redis_server.url) as publisher:
        former = use(publisher)
        yield create_app()
        use(former)


@pytest.fixture
def new_user(app: Flask) -> NewUser:
    """Return a function that signs somebody in, in a browser of their own."""

    def sign_in(name: str) -> FlaskClient:
        client = app.test_client()
        assert client.post("/session", json={"name": name}).status_code == 200
        return client

    return sign_in


@pytest.fixture
def ada(new_user: NewUser) -> FlaskClient:
    return new_user("Ada")


@pytest.fixture
def heard(redis_client: redis.Redis) -> Iterator[Callable[[], tuple[str, bytes]]]:
    """Return a function that returns what applications publish next: channel and payload."""
    with redis_client.pubsub() as pubsub:
        pubsub.psubscribe("*")
        assert pubsub.get_message(timeout=EVENT_TIMEOUT)

        def next_message() -> tuple[str, bytes]:
            while True:
                message = pubsub.get_message(timeout=EVENT_TIMEOUT)
                assert message is not None
                if not is_for_nodes(message["channel"]):
                    return message["channel"].decode(), message["data"]

        yield next_message


def json_of(answer: TestResponse) -> Any:
    return json.loads(answer.text)


def state_of(client: FlaskClient) -> Any:
    """Return the state of a page, but for the moment at which it was asked for."""
    state = json_of(client.get("/state"))
    return state and {**state, "at": ""}


def joined(client: FlaskClient) -> set[str]:
    return {room["id"] for room in state_of(client)["rooms"] if room["joined"]}


def channels(redis_client: redis.Redis, name: str) -> set[bytes]:
    members: set[bytes] = redis_client.smembers(f"sinapse:channels:chat-{name}")  # type: ignore[assignment]
    return members


def content(payload: bytes) -> tuple[str | None, dict[str, Any]]:
    message = unpack(payload)
    body = json.loads(message.data)
    at = datetime.fromisoformat(body.pop("at"))
    assert at.utcoffset() is not None
    assert abs((datetime.now(UTC) - at).total_seconds()) < EVENT_TIMEOUT
    return message.event, body


class TestPage:
    def test_loads_nothing_but_its_own_files(self, app: Flask) -> None:
        page = app.test_client().get("/").text
        files = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert files
        for file in files:
            assert file.startswith("/static/")
            with app.test_client().get(file) as answer:
                assert answer.status_code == 200

    def test_has_no_inline_script_or_style(self, app: Flask) -> None:
        page = app.test_client().get("/").text
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", page)

    def test_scripts_are_modules_that_browsers_accept(self, app: Flask) -> None:
        for path in ("/static/chat.js", "/sinapse.js"):
            with app.test_client().get(path) as answer:
                assert answer.mimetype == "text/javascript"

    def test_may_connect_to_itself_and_the_daemon_only(
        self, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SINAPSE_URL", "https://push.example.org/stream?via=1")
        answer = create_app().test_client().get("/")
        policy = answer.headers["Content-Security-Policy"].split("; ")
        assert "default-src 'self'" in policy
        daemon = "https://push.example.org wss://push.example.org"
        assert f"connect-src 'self' {daemon}" in policy
        assert 'data-sinapse-url="https://push.example.org/stream?via=1"' in answer.text

    def test_names_the_usual_daemon_where_no_other_is_set(
        self, app: Flask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SINAPSE_URL", raising=False)
        assert (
            'data-sinapse-url="http://localhost:9000/"' in create_app().test_client().get("/").text
        )


class TestSigningIn:
    def test_goes_into_the_first_room(self, ada: FlaskClient, redis_client: redis.Redis) -> None:
        assert joined(ada) == {"lobby"}
        assert channels(redis_client, "Ada") == {b"room:lobby"}

    def test_gives_a_token_that_the_daemon_knows_and_that_expires(
        self, ada: FlaskClient, redis_client: redis.Redis
    ) -> None:
        token = state_of(ada)["token"]
        assert redis_client.get(f"sinapse:tokens:{token}") == b"chat-Ada"
        assert 0 < redis_client.ttl(f"sinapse:tokens:{token}") <= 24 * 60 * 60

    def test_keeps_the_token_while_it_is_valid_and_makes_a_new_one_after_that(
        self, ada: FlaskClient, redis_client: redis.Redis
    ) -> None:
        token = state_of(ada)["token"]
        assert state_of(ada)["token"] == token
        redis_client.delete(f"sinapse:tokens:{token}", "sinapse:User:chat-Ada")
        assert state_of(ada)["token"] != token

    def test_tells_users_apart(self, new_user: NewUser) -> None:
        ada, grace = state_of(new_user("Ada")), state_of(new_user("Grace"))
        assert (ada["name"], grace["name"]) == ("Ada", "Grace")
        assert ada["token"] != grace["token"]

    def test_sets_a_cookie_that_neither_scripts_nor_other_sites_get(self, app: Flask) -> None:
        cookie = app.test_client().post("/session", json={"name": "Ada"}).headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))

    def test_state_is_null_for_somebody_unknown(self, app: Flask) -> None:
        assert state_of(app.test_client()) is None

    def test_state_has_a_token_in_it_and_is_not_cached(self, ada: FlaskClient) -> None:
        assert ada.get("/state").headers["Cache-Control"] == "no-store"

    @pytest.mark.parametrize("name", ["A", "Ada Lovelace", "Зоя", "李", "<b>", "x" * 32])
    def test_takes_any_name_that_can_be_shown(self, app: Flask, name: str) -> None:
        answer = app.test_client().post("/session", json={"name": f" {name} "})
        assert json_of(answer)["name"] == name

    @pytest.mark.parametrize(
        "body",
        [
            {},
            [],
            "Ada",
            {"name": ""},
            {"name": " \t"},
            {"name": None},
            {"name": 1},
            {"name": ["Ada"]},
            {"name": "x" * 33},
            {"name": "A\nda"},
            {"name": "A\0da"},
            {"name": "A\u202eda"},
            {"name": "A\ud800"},
        ],
    )
    def test_refuses_any_other(self, app: Flask, body: object) -> None:
        client = app.test_client()
        answer = client.post("/session", json=body)
        assert answer.status_code == 400
        assert json_of(answer)["error"]
        assert state_of(client) is None

    def test_refuses_what_another_site_could_send(self, app: Flask) -> None:
        client = app.test_client()
        assert client.post("/session", data={"name": "Ada"}).status_code == 415
        answer = client.post("/session", data='{"name":"Ada"}', content_type="text/plain")
        assert answer.status_code == 415
        assert state_of(client) is None

    def test_signing_out_revokes_the_token_and_clears_the_channels(
        self, ada: FlaskClient, redis_client: redis.Redis
    ) -> None:
        token = state_of(ada)["token"]
        assert ada.delete("/session").status_code == 204
        assert state_of(ada) is None
        assert not redis_client.exists(f"sinapse:tokens:{token}")
        assert channels(redis_client, "Ada") == set()

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("DELETE", "/session", None),
            ("POST", "/rooms", {"title": "Tea"}),
            ("PUT", f"{LOBBY}/subscription", None),
            ("DELETE", f"{LOBBY}/subscription", None),
            ("POST", f"{LOBBY}/messages", {"text": "hello"}),
        ],
    )
    def test_is_needed_for_everything_else(
        self, app: Flask, method: str, path: str, body: object
    ) -> None:
        assert app.test_client().open(path, method=method, json=body).status_code == 401


class TestRooms:
    def test_joining_adds_the_channel_and_then_tells_the_room(
        self, ada: FlaskClient, redis_client: redis.Redis, heard: Callable[[], tuple[str, bytes]]
    ) -> None:
        ada.put(f"{HELP}/subscription")
        assert channels(redis_client, "Ada") == {b"room:lobby", b"room:help"}
        assert heard()[0] == "sinapse:channels:chat-Ada:grant"
        assert heard() == ("sinapse:channels:chat-Ada:add", b"room:help")
        channel, payload = heard()
        assert channel == "room:help"
        assert content(payload) == ("joined", {"room": "help", "author": "Ada"})

    def test_leaving_removes_the_channel_before_it_tells_the_room(
        self, ada: FlaskClient, redis_client: redis.Redis, heard: Callable[[], tuple[str, bytes]]
    ) -> None:
        ada.delete(f"{LOBBY}/subscription")
        assert channels(redis_client, "Ada") == set()
        assert joined(ada) == set()
        assert heard()[0] == "sinapse:channels:chat-Ada:withdraw"
        assert heard() == ("sinapse:channels:chat-Ada:remove", b"room:lobby")
        channel, payload = heard()
        assert channel == "room:lobby"
        assert content(payload) == ("left", {"room": "lobby", "author": "Ada"})

    def test_joining_and_leaving_twice_is_told_once(
        self, ada: FlaskClient, redis_client: redis.Redis, heard: Callable[[], tuple[str, bytes]]
    ) -> None:
        for _ in range(2):
            assert ada.put(f"{HELP}/subscription").status_code == 200
        for _ in range(2):
            assert ada.delete(f"{HELP}/subscription").status_code == 200
        redis_client.publish("end", "")
        events = [
            unpack(payload).event
            for channel, payload in iter(heard, ("end", b""))
            if channel == "room:help"
        ]
        assert events == ["joined", "left"]

    def test_a_new_one_is_there_for_everybody_and_its_maker_is_in_it(
        self, new_user: NewUser, redis_client: redis.Redis
    ) -> None:
        ada, grace = new_user("Ada"), new_user("Grace")
        answer = ada.post("/rooms", json={"title": " Tea & biscuits "})
        assert json_of(answer)["rooms"][-1] == {
            "id": "tea-biscuits",
            "title": "Tea & biscuits",
            "joined": True,
        }
        assert b"room:tea-biscuits" in channels(redis_client, "Ada")
        assert joined(grace) == {"lobby"}
        assert joined(grace) < joined(ada)
        assert grace.put("/rooms/tea-biscuits/subscription").status_code == 200

    @pytest.mark.parametrize(
        ("title", "status"),
        [("", 400), ("x" * 33, 400), ("-!-", 400), ("a\nb", 400), ("LOBBY", 409), ("lobby!", 409)],
    )
    def test_a_new_one_has_a_name_of_its_own(
        self, ada: FlaskClient, title: str, status: int
    ) -> None:
        before = state_of(ada)
        assert ada.post("/rooms", json={"title": title}).status_code == status
        assert state_of(ada) == before

    def test_are_not_made_without_end(self, ada: FlaskClient) -> None:
        there = len(state_of(ada)["rooms"])
        for number in range(there, MOST_ROOMS):
            assert ada.post("/rooms", json={"title": f"Room {number}"}).status_code == 200
        assert ada.post("/rooms", json={"title": "One more"}).status_code == 409

    @pytest.mark.parametrize("method", ["PUT", "DELETE"])
    def test_unknown_ones_are_not_found(self, ada: FlaskClient, method: str) -> None:
        assert ada.open("/rooms/nowhere/subscription", method=method).status_code == 404
        assert joined(ada) == {"lobby"}


class TestMessages:
    @pytest.mark.parametrize("text", ["hello", "two\nlines", "<script>", "👩‍🚀 ünï\0", "x" * 2_000])
    def test_are_published_in_their_room(
        self, ada: FlaskClient, heard: Callable[[], tuple[str, bytes]], text: str
    ) -> None:
        assert ada.post(f"{LOBBY}/messages", json={"text": text}).status_code == 204
        channel, payload = heard()
        assert channel == "room:lobby"
        assert content(payload) == ("chat", {"room": "lobby", "author": "Ada", "text": text})

    def test_escaped_to_the_last_character_are_not_too_large(self, ada: FlaskClient) -> None:
        answer = ada.post(f"{LOBBY}/messages", json={"text": "🎈" * 2_000})
        assert answer.status_code == 204

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"{}", 400),
            (b"[1]", 400),
            (b"{", 400),
            (b'{"text": " \\n"}', 400),
            (b'{"text": 1}', 400),
            (b'{"text": "\\ud800"}', 400),
            (json.dumps({"text": "x" * 2_001}).encode(), 400),
            (json.dumps({"text": "x" * LARGEST_REQUEST}).encode(), 413),
        ],
    )
    def test_that_make_no_sense_are_refused_and_not_published(
        self,
        ada: FlaskClient,
        redis_client: redis.Redis,
        heard: Callable[[], tuple[str, bytes]],
        body: bytes,
        status: int,
    ) -> None:
        answer = ada.post(f"{LOBBY}/messages", data=body, content_type="application/json")
        assert answer.status_code == status
        assert json_of(answer)["error"]
        redis_client.publish("room:lobby", "next")
        assert heard() == ("room:lobby", b"next")

    def test_of_somebody_who_is_not_in_the_room_are_refused_and_not_published(
        self, ada: FlaskClient, redis_client: redis.Redis, heard: Callable[[], tuple[str, bytes]]
    ) -> None:
        assert ada.post(f"{HELP}/messages", json={"text": "hello"}).status_code == 403
        redis_client.publish("room:help", "next")
        assert heard() == ("room:help", b"next")

    def test_of_somebody_who_was_removed_are_refused(
        self, ada: FlaskClient, redis_client: redis.Redis
    ) -> None:
        redis_client.srem("sinapse:channels:chat-Ada", "room:lobby")
        assert ada.post(f"{LOBBY}/messages", json={"text": "hello"}).status_code == 403

    def test_without_redis_are_an_error_that_says_to_whom(self, ada: FlaskClient) -> None:
        with Publisher(f"redis://127.0.0.1:{free_port()}/0") as nowhere:
            former = use(nowhere)
            answer = ada.post(f"{LOBBY}/messages", json={"text": "hello"})
            use(former)
        assert answer.status_code == 503
        assert json_of(answer) == {"error": "Redis does not answer."}
        assert ada.post(f"{LOBBY}/messages", json={"text": "hello"}).status_code == 204
