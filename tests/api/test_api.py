"""The HTTP API, on a real daemon."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
import redis
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from sinapse.errors import (
    BrokerUnavailable,
    Incomplete,
    InvalidChannel,
    ListFull,
    MessageTooLarge,
    UnknownID,
)
from sinapse.protocol.message import unpack
from sinapse.publisher import History, Outgoing, Publisher, Retained, aio
from sinapse.publisher.http.connections import HTTPConnections
from sinapse.publisher.http.requests import MAX_MESSAGES_PER_REQUEST, MAX_REQUEST_SIZE
from tests.support import EVENT_TIMEOUT, RedisServer, eventually, free_port, running_redis
from tests.support.daemon import ROOT, Daemon, running_daemon
from tests.support.listening import Listener
from tests.support.proxy import running_proxy, unchanged
from tests.support.publishing import FORKS, exit_status, forks, in_child, in_own_process
from tests.support.walkthrough import PYTHON_BLOCK

KEY = "k" * 32
WITH_KEY = {"Authorization": f"Bearer {KEY}"}
OTHER = "o" * 40

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

#: A device, and channels with which there are too many.
LONG = b"x" * 257
MANY = b'"a",' * 100


class Answer(NamedTuple):
    status: int
    body: Any
    headers: http.client.HTTPMessage


class API:
    """A client; `key` is None for a request without one."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.keys = folder / "keys"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = KEY,
        raw: bytes | None = None,
        **headers: str,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            fields["Authorization"] = f"Bearer {key}"
        if body is not None:
            raw = json.dumps(body).encode()
        if raw is not None:
            fields.setdefault("Content-Type", "application/json")
        connection.request(method, path, raw, fields)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return Answer(response.status, json.loads(text) if text else None, response.headers)


@pytest.fixture(scope="module")
def _serving(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Daemon, API]]:
    folder = tmp_path_factory.mktemp("api")
    api = API(free_port(), folder)
    api.keys.write_text(f"# of the shop\n{KEY}\n\n")
    endpoint = f"tcp:{api.port}:interface=127.0.0.1"
    options = ("--api", endpoint, "--api-keys", str(api.keys), "--presence")
    with running_daemon(folder, redis_process.url, *options) as daemon:
        yield daemon, api
        assert "Traceback" not in daemon.log
        assert KEY not in daemon.log


@pytest.fixture
def api(_serving: tuple[Daemon, API], redis_server: RedisServer) -> API:
    return _serving[1]


@pytest.fixture
def node(_serving: tuple[Daemon, API], redis_server: RedisServer) -> Daemon:
    return _serving[0]


def subscribe(api: API, *channels: str) -> str:
    for channel in channels:
        assert api.ask("PUT", f"/v1/subjects/1/channels/{quote(channel, safe='')}").status == 200
    token: str = api.ask("POST", "/v1/subjects/1/token", {}).body["token"]
    return token


class TestPublishing:
    def test_a_message_is_published(self, api: API, node: Daemon) -> None:
        with node.stream(subscribe(api, "room:1")).opened() as stream:
            message = {"channel": "room:1", "message": "hello", "event": "chat"}
            answer = api.ask("POST", "/v1/publish", message)
            event = stream.next()
            assert (event.data, event.event) == ("hello", "chat")
            assert event.id
            assert answer[:2] == (200, {"nodes": 1, "id": event.id})
            plain = {"channel": "room:1", "message": {"a": [1]}, "retain": 0}
            assert api.ask("POST", "/v1/publish", plain).body == {"nodes": 1, "id": None}
            event = stream.next()
            assert (json.loads(event.data), event.id) == ({"a": [1]}, None)

    @pytest.mark.parametrize(
        "value",
        ["", "nonsense", "\xff", "00-" + "\xe9" * 52, "x" * 5000],
        ids=["empty", "no trace", "no ASCII", "no digits", "long"],
    )
    def test_a_trace_that_is_none_is_passed_over(self, api: API, value: str) -> None:
        message = {"channel": "room:1", "message": "hello"}
        answer = api.ask("POST", "/v1/publish", message, traceparent=value)
        assert answer.status == 200
        answer = api.ask("POST", "/v1/publish", message, traceparent=PARENT, tracestate=value)
        assert answer.status == 200

    def test_what_has_the_same_key_is_published_once(self, api: API, node: Daemon) -> None:
        with node.stream(subscribe(api, "room:1")).opened() as stream:
            message = {"channel": "room:1", "message": "once"}
            ids = {
                api.ask("POST", "/v1/publish", message, Idempotency_Key="x").body["id"]
                for _ in range(3)
            }
            message = {"channel": "room:1", "message": "once", "message_id": "x"}
            assert api.ask("POST", "/v1/publish", message).body == {"nodes": 0, "id": ids.pop()}
            assert not ids
            api.ask("POST", "/v1/publish", {"channel": "room:1", "message": "end"})
            assert [stream.next().data for _ in range(2)] == ["once", "end"]

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/v1/publish/many", {"messages": [{"channel": "room:1", "message": "a"}]}),
            ("/v1/subjects/1/token", {}),
            ("/v1/subjects/1/sessions", {}),
        ],
    )
    def test_a_key_of_more_than_a_message_is_refused(
        self, api: API, publisher: Publisher, path: str, body: Any
    ) -> None:
        status, answer, _ = api.ask("POST", path, body, Idempotency_Key="x")
        assert (status, "give each a message_id" in answer["error"]) == (422, True)
        assert publisher.tokens.get("1") is None
        assert publisher.sessions.list("1") == []

    def test_many_are_published_in_order_and_each_fails_for_itself(
        self, api: API, node: Daemon
    ) -> None:
        with node.stream(subscribe(api, "room:1")).opened() as stream:
            messages: list[dict[str, Any]] = [
                {"channel": "room:1", "message": str(number)} for number in range(300)
            ]
            messages[100] = {"channel": "room:1", "message": "x" * (1024 * 1024 + 1)}
            status, body, _ = api.ask("POST", "/v1/publish/many", {"messages": messages})
            assert status == 200
            failed = body["results"].pop(100)
            assert "over 1048576 bytes" in failed["error"]
            heard = [stream.next() for _ in range(299)]
            assert body["results"] == [{"nodes": 1, "id": each.id} for each in heard]
            expected = [str(number) for number in range(300) if number != 100]
            assert [each.data for each in heard] == expected

    def test_many_stay_in_order_also_when_redis_knows_no_script(
        self, api: API, node: Daemon, redis_client: redis.Redis
    ) -> None:
        messages = [
            {"channel": "room:1", "message": str(n), "retain": 300 * (n % 2)} for n in range(6)
        ]
        with node.stream(subscribe(api, "room:1")).opened() as stream:
            for _ in range(2):
                redis_client.script_flush()
                body = api.ask("POST", "/v1/publish/many", {"messages": messages}).body
                heard = [stream.next() for _ in range(6)]
                assert body["results"] == [{"nodes": 1, "id": each.id} for each in heard]
                assert [each.data for each in heard] == [str(n) for n in range(6)]

    def test_a_message_that_is_too_large_is_413(self, api: API) -> None:
        message = {"channel": "room:1", "message": "x" * (1024 * 1024 + 1)}
        assert api.ask("POST", "/v1/publish", message).status == 413

    def test_how_much_is_kept_and_what_new_streams_get_is_said(
        self, api: API, redis_client: redis.Redis
    ) -> None:
        message = {"channel": "room:1", "message": "a", "replay": "all", "retain_messages": 2}
        for _ in range(4):
            assert api.ask("POST", "/v1/publish", message).status == 200
        assert redis_client.xlen("sinapse:retained:room:1") == 2
        assert redis_client.hget("sinapse:replay", "room:1") == b"all"
        many = {"messages": [message | {"replay": 1}, message | {"retain": 0}]}
        first, second = api.ask("POST", "/v1/publish/many", many).body["results"]
        assert first["id"]
        assert "this one is not" in second["error"]
        assert redis_client.hget("sinapse:replay", "room:1") == b"1"

    def test_whom_it_is_not_for_is_said(self, api: API, listener: Listener) -> None:
        message = {"channel": "room:1", "message": "a", "but": "mine"}
        assert api.ask("POST", "/v1/publish", message).status == 200
        many = {"messages": [message, message | {"but": None, "retain": 0}]}
        assert api.ask("POST", "/v1/publish/many", many).status == 200
        heard = [unpack(payload).but for _, payload in listener.heard()]
        assert heard == ["mine", "mine", None]
        for wrong in ("", "a b", "a" * 65, 7):
            answer = api.ask("POST", "/v1/publish", message | {"but": wrong})
            assert answer.status == 422


class TestHistory:
    def test_it_is_read_page_by_page(self, api: API, publisher: Publisher) -> None:
        ids = [publisher.publish("a/b", str(number), "e").id for number in range(5)]
        path = "/v1/channels/a%2Fb/history"
        page = api.ask("GET", f"{path}?limit=3").body
        assert page == {
            "messages": [
                {"id": each, "event": "e", "data": str(number)}
                for number, each in enumerate(ids[:3])
            ],
            "missing": False,
            "more": True,
        }
        page = api.ask("GET", f"{path}?limit=3&after={ids[2]}").body
        assert [each["id"] for each in page["messages"]] == ids[3:]
        assert (page["missing"], page["more"]) == (False, False)
        assert api.ask("GET", path).body["messages"][0]["data"] == "0"

    def test_an_id_that_was_never_given_is_410(self, api: API, publisher: Publisher) -> None:
        publisher.publish("room:1", "hello")
        status, body, _ = api.ask("GET", "/v1/channels/room:1/history?after=ab-5")
        assert (status, "was never given" in body["error"]) == (410, True)


class TestTokens:
    def test_a_life(self, api: API, publisher: Publisher) -> None:
        path = "/v1/subjects/1/token"
        assert api.ask("GET", path)[:2] == (404, {"error": "there is no token"})
        assert api.ask("PATCH", path, {"expires_in": 60}).body == {"renewed": False}
        token = api.ask("POST", path, {"expires_in": 60}).body["token"]
        assert publisher.tokens.get("1") == token
        assert api.ask("GET", path).body == api.ask("PUT", path, {}).body == {"token": token}
        assert api.ask("PATCH", path, {}).body == {"renewed": True}
        assert api.ask("DELETE", path).body == {"changed": True}
        assert api.ask("DELETE", path).body == {"changed": False}
        assert publisher.tokens.get("1") is None

    def test_kinds_are_apart(self, api: API, publisher: Publisher) -> None:
        token = api.ask("POST", "/v1/subjects/1/token", {"kind": "Admin"}).body["token"]
        assert api.ask("GET", "/v1/subjects/1/token").status == 404
        assert api.ask("GET", "/v1/subjects/1/token?kind=Admin").body == {"token": token}
        assert publisher.tokens.get("1", "Admin") == token


class TestSessions:
    PATH = "/v1/subjects/1/sessions"

    def test_each_device_ends_alone(self, api: API, node: Daemon, publisher: Publisher) -> None:
        subscribe(api, "room:1")
        wanted = {"device": "Ada's phone \u260e", "expires_in": 60, "only": ["room:*", "news"]}
        phone = api.ask("POST", self.PATH, wanted).body
        laptop = api.ask("POST", self.PATH, {}).body
        assert (phone["ended"], laptop["ended"]) == ([], [])
        with (
            node.stream(phone["token"]).opened() as first,
            node.stream(laptop["token"]).opened() as rest,
        ):
            assert api.ask("DELETE", f"{self.PATH}/{phone['id']}").body == {"changed": True}
            first.wait_for_end()
            publisher.publish("room:1", "hello")
            assert rest.message().data == "hello"
        assert api.ask("DELETE", f"{self.PATH}/{phone['id']}").body == {"changed": False}
        assert [each.id for each in publisher.sessions.list("1")] == [laptop["id"]]

    def test_they_are_listed_without_their_tokens(self, api: API, publisher: Publisher) -> None:
        phone = publisher.sessions.open("1", device="phone", expires_in=60, only=["b", "a*"])
        laptop = publisher.sessions.open("1")
        answer = api.ask("GET", self.PATH).body
        known = {each.id: each for each in publisher.sessions.list("1")}
        first, second = answer["sessions"]
        assert abs(first.pop("expires") - (known[phone.id].expires or 0)) < 1
        assert first == {
            "id": phone.id,
            "device": "phone",
            "only": ["a*", "b"],
            "opened": known[phone.id].opened,
            "seen": None,
        }
        assert second == {
            "id": laptop.id,
            "device": None,
            "only": None,
            "opened": known[laptop.id].opened,
            "seen": None,
            "expires": None,
        }
        assert api.ask("GET", "/v1/subjects/2/sessions").body == {"sessions": []}

    def test_one_is_renewed(self, api: API, publisher: Publisher) -> None:
        session = publisher.sessions.open("1", expires_in=60)
        path = f"{self.PATH}/{session.id}"
        assert api.ask("PATCH", path, {"expires_in": 3600}).body == {"renewed": True}
        [listed] = publisher.sessions.list("1")
        assert listed.expires is not None
        assert listed.expires - listed.opened > 3000
        assert api.ask("PATCH", path, {}).body == {"renewed": True}
        assert publisher.sessions.list("1")[0].expires is None
        other = f"/v1/subjects/2/sessions/{session.id}"
        assert api.ask("PATCH", other, {}).body == {"renewed": False}
        assert api.ask("DELETE", other).body == {"changed": False}

    def test_all_but_one_end_and_then_all(self, api: API, publisher: Publisher) -> None:
        opened = [publisher.sessions.open("1") for _ in range(4)]
        assert api.ask("DELETE", f"{self.PATH}?but={opened[1].id}").body == {"ended": 3}
        assert [each.id for each in publisher.sessions.list("1")] == [opened[1].id]
        publisher.sessions.open("1")
        assert api.ask("DELETE", self.PATH).body == {"ended": 2}
        assert publisher.sessions.list("1") == []

    def test_one_that_was_to_stay_is_not_ended_for_an_empty_id(
        self, api: API, publisher: Publisher
    ) -> None:
        publisher.sessions.open("1")
        for but in ("", "x", "A" * 32, "0" * 33, "0" * 31 + "%0A"):
            status, body, _ = api.ask("DELETE", f"{self.PATH}?but={but}")
            assert (status, "a session's id is 32 hexadecimal digits" in body["error"]) == (
                422,
                True,
            )
        assert len(publisher.sessions.list("1")) == 1


class TestChannels:
    def test_lists_change_and_open_streams_follow(self, api: API, node: Daemon) -> None:
        with node.stream(subscribe(api, "room:1")).opened() as stream:
            assert api.ask("PUT", "/v1/subjects/1/channels/a%2Fb%20c").body == {"changed": True}
            assert api.ask("PUT", "/v1/subjects/1/channels/a%2Fb%20c").body == {"changed": False}
            listed = api.ask("GET", "/v1/subjects/1/channels").body
            assert listed == {"channels": ["a/b c", "room:1"]}
            api.ask("POST", "/v1/publish", {"channel": "a/b c", "message": "here"})
            assert stream.next().data == "here"
            there = "/v1/subjects/1/channels/room:1"
            assert api.ask("GET", there).body == {"listens": True}
            assert api.ask("DELETE", there).body == {"changed": True}
            assert api.ask("GET", there).body == {"listens": False}
            assert api.ask("DELETE", "/v1/subjects/1/channels").body == {"removed": 1}
            stream.wait_for_end()

    @pytest.mark.parametrize("body", [None, {}, {"expires_in": None}])
    def test_a_channel_that_is_added_lasts(
        self, api: API, redis_client: redis.Redis, body: Any
    ) -> None:
        there = "/v1/subjects/1/channels/room:1"
        api.ask("PUT", there, {"expires_in": 60})
        assert redis_client.exists("sinapse:ends")
        assert api.ask("PUT", there, body).body == {"changed": False}
        assert not redis_client.exists("sinapse:ends")

    def test_a_channel_that_is_added_for_some_time_ends_by_itself(
        self, api: API, node: Daemon
    ) -> None:
        there = "/v1/subjects/1/channels/room:1"
        with node.stream(subscribe(api, "room:1")).opened() as stream:
            assert api.ask("PUT", there, {"expires_in": 0.05}).body == {"changed": False}
            stream.wait_for_end()
        assert api.ask("GET", there).body == {"listens": False}


class TestGroups:
    def test_a_subject_joins_and_leaves(self, api: API, publisher: Publisher) -> None:
        team, other = "/v1/subjects/1/groups/a%2Fb", "/v1/subjects/1/groups/all"
        assert api.ask("GET", "/v1/subjects/1/groups").body == {"groups": []}
        assert api.ask("PUT", team).body == {"changed": True}
        assert api.ask("PUT", team).body == {"changed": False}
        assert api.ask("PUT", other).body == {"changed": True}
        assert api.ask("GET", "/v1/subjects/1/groups").body == {"groups": ["a/b", "all"]}
        assert publisher.groups.members("a/b") == ["1"]
        assert api.ask("DELETE", team).body == {"changed": True}
        assert api.ask("DELETE", team).body == {"changed": False}
        assert api.ask("PUT", team).body == {"changed": True}
        assert api.ask("DELETE", "/v1/subjects/1/groups").body == {"left": 2}
        assert api.ask("DELETE", "/v1/subjects/1/groups").body == {"left": 0}
        assert publisher.groups.of("1") == set()

    def test_members_are_listed_page_by_page(self, api: API, publisher: Publisher) -> None:
        for subject in ("1", "10", "2", "a b"):
            publisher.groups.add(subject, "all")
        path = "/v1/groups/all/members"
        assert api.ask("GET", path).body == {"members": ["1", "10", "2", "a b"]}
        assert api.ask("GET", f"{path}?limit=2").body == {"members": ["1", "10"]}
        assert api.ask("GET", f"{path}?after=10&limit=2").body == {"members": ["2", "a b"]}
        assert api.ask("GET", f"{path}?after=a%20b").body == {"members": []}

    def test_their_channels_change(self, api: API, publisher: Publisher) -> None:
        path = "/v1/groups/team:3/channels"
        assert api.ask("GET", path).body == {"channels": []}
        assert api.ask("PUT", f"{path}/a%2Fb%20c").body == {"changed": True}
        assert api.ask("PUT", f"{path}/a%2Fb%20c").body == {"changed": False}
        assert api.ask("PUT", f"{path}/news").body == {"changed": True}
        assert api.ask("GET", path).body == {"channels": ["a/b c", "news"]}
        assert publisher.groups.channels("team:3").list() == {"a/b c", "news"}
        assert api.ask("DELETE", f"{path}/news").body == {"changed": True}
        assert api.ask("DELETE", f"{path}/news").body == {"changed": False}
        assert api.ask("DELETE", path).body == {"removed": 1}
        assert publisher.groups.channels("team:3").list() == set()

    def test_open_streams_follow(self, api: API, node: Daemon, publisher: Publisher) -> None:
        with node.stream(subscribe(api, "room:1")).opened() as stream:
            api.ask("PUT", "/v1/groups/team:3/channels/news")
            api.ask("PUT", "/v1/subjects/1/groups/team:3")
            publisher.publish("news", "heard")
            assert stream.next().data == "heard"
            api.ask("DELETE", "/v1/subjects/1/groups/team:3")
            publisher.publish("news", "unheard")
            publisher.publish("room:1", "end")
            assert stream.next().data == "end"

    def test_what_is_full_is_a_conflict(self, api: API, redis_client: redis.Redis) -> None:
        redis_client.hset("sinapse:groups:1", mapping={f"team:{n}": 0 for n in range(100)})
        answer = api.ask("PUT", "/v1/subjects/1/groups/more")
        error = "subject '1' is in 100 groups already: it cannot join 'more'"
        assert (answer.status, answer.body) == (409, {"error": error})
        redis_client.hset("sinapse:group:all", mapping={f"room:{n}": 0 for n in range(1000)})
        answer = api.ask("PUT", "/v1/groups/all/channels/more")
        error = "group 'all' has 1000 channels already: 'more' cannot be added"
        assert (answer.status, answer.body) == (409, {"error": error})


class TestPosition:
    def test_it_is_where_a_stream_goes_on(self, api: API, node: Daemon) -> None:
        token = subscribe(api, "room:1")
        api.ask("POST", "/v1/publish", {"channel": "room:1", "message": "before"})
        (position,) = api.ask("GET", "/v1/position").body.values()
        api.ask("POST", "/v1/publish", {"channel": "room:1", "message": "after"})
        with node.stream(token, after=position).opened() as stream:
            assert stream.next().data == "after"


class TestPresence:
    def test_who_is_there(self, api: API, node: Daemon) -> None:
        # Somebody of whom no other test has had a stream: who is gone counts as there for a while.
        api.ask("PUT", "/v1/subjects/ada/channels/presence")
        token = api.ask("POST", "/v1/subjects/ada/token", {}).body["token"]
        assert api.ask("GET", "/v1/subjects/ada/online").body == {"online": False}
        assert api.ask("GET", "/v1/channels/presence/online").body == {"subjects": []}
        with node.stream(token).opened():
            eventually(lambda: api.ask("GET", "/v1/subjects/ada/online").body == {"online": True})
            found = api.ask("GET", "/v1/channels/presence/online").body
            assert found == {"subjects": ["ada"]}


class TestTransport:
    """The library, with the API in the place of Redis."""

    @pytest.fixture
    def remote(self, api: API) -> Iterator[Publisher]:
        with Publisher(f"http+sinapse://{KEY}@127.0.0.1:{api.port}") as publisher:
            yield publisher

    def test_it_does_what_it_does_with_redis(self, remote: Publisher, node: Daemon) -> None:
        assert remote.channels.add("1", "a/b c") is True
        assert remote.channels.add("1", "a/b c") is False
        assert remote.channels.has("1", "a/b c")
        assert remote.tokens.get("1") is None
        token = remote.tokens.generate("1", expires_in=60)
        assert remote.tokens.get("1") == remote.tokens.obtain("1") == token
        assert remote.tokens.renew("1")
        assert remote.tokens.get("1", "Admin") is None
        assert remote.sessions.end(1, remote.sessions.open("1").id)
        with node.stream(token).opened() as stream:
            assert remote.publish("a/b c", {"x": "\n"}, event="chat") == 1
            event = stream.next()
            assert (json.loads(event.data), event.event) == ({"x": "\n"}, "chat")
            for _ in range(2):
                remote.publish("a/b c", "once", message_id="x")
            assert remote.publish("a/b c", "plain", retain=0) == 1
            events = [stream.next() for _ in range(2)]
            assert [event.data for event in events] == ["once", "plain"]
            assert [event.id is None for event in events] == [False, True]
            eventually(lambda: remote.online("1"))
            assert remote.online_in("a/b c") == {"1"}
            assert remote.audience("a/b c") == (1, 1)
        assert remote.position() == events[0].id
        published = remote.publish("a/b c", {"n": 1}, "e", replay=2, retain_messages=1)
        assert published.id == remote.position()
        assert remote.publish("a/b c", "plain", retain=0).id is None
        assert remote.publish("a/b c", "once", message_id="x").id == events[0].id
        many = remote.publish_many([("a/b c", "last"), Outgoing("a/b c", "plain", retain=0)])
        assert [each.id for each in many] == [remote.position(), None]
        page = remote.history("a/b c", limit=1)
        assert (page.missing, page.more) == (True, True)
        assert page.messages == (Retained(str(published.id), "e", '{"n":1}'),)
        page = remote.history("a/b c", published.id)
        assert page == History((Retained(remote.position(), None, "last"),), False, False)
        with pytest.raises(UnknownID):
            remote.history("a/b c", "ab-5")
        with remote.pipeline() as pipe:
            known, unknown = pipe.history("a/b c"), pipe.history("a/b c", "ab-5")
            with pytest.raises(Incomplete):
                pipe.send()
        assert len(known.result.messages) == 2
        with pytest.raises(UnknownID):
            _ = unknown.result
        assert remote.channels.add("1", "short", expires_in=0.02) is True
        eventually(lambda: not remote.channels.has("1", "short"))
        assert remote.channels.list("1") == {"a/b c"}
        assert remote.channels.remove("1", "a/b c") is True
        assert remote.channels.clear("1") == 0
        assert remote.tokens.clear("1") is True
        assert remote.tokens.clear("1") is False

    def test_of_several_changes_each_reaches_its_bound_for_itself(
        self, remote: Publisher, redis_client: redis.Redis
    ) -> None:
        redis_client.hset("sinapse:groups:1", mapping={f"team:{n}": 0 for n in range(100)})
        with remote.pipeline() as pipe:
            full, other = pipe.groups.add("1", "more"), pipe.groups.add("2", "more")
            with pytest.raises(Incomplete):
                pipe.send()
        with pytest.raises(ListFull, match=r"^subject '1' is in 100 groups already"):
            _ = full.result
        assert other.result is True

    def test_what_the_page_shows_runs(self, api: API) -> None:
        (block,) = PYTHON_BLOCK.findall((ROOT / "docs" / "api.md").read_text())
        here = block.replace("KEY@push.example:9002", f"{KEY}@127.0.0.1:{api.port}")
        assert here != block
        names: dict[str, Any] = {}
        exec(here, names)  # That is the test.
        names["publisher"].close()

    def test_threads_share_it(self, remote: Publisher, api: API, node: Daemon) -> None:
        with node.stream(subscribe(api, "room:1")).opened() as stream:
            with ThreadPoolExecutor(12) as pool:
                list(pool.map(lambda number: remote.publish("room:1", number), range(200)))
            assert {int(stream.next().data) for _ in range(200)} == set(range(200))

    def test_more_than_one_request_takes_are_several(
        self, remote: Publisher, api: API, node: Daemon
    ) -> None:
        large = [(f"room:{number}", "é" * 250_000) for number in range(20)]
        assert remote.publish_many(large) == [0] * 20
        small = [("room:1", str(number)) for number in range(MAX_MESSAGES_PER_REQUEST + 1)]
        with node.stream(subscribe(api, "room:1")).opened() as stream:
            assert remote.publish_many(small) == [1] * len(small)
            assert [stream.next().data for _ in small] == [data for _, data in small]

    def test_what_no_request_takes_is_too_large_and_the_others_are_published(
        self, api: API
    ) -> None:
        url = f"http+sinapse://{KEY}@127.0.0.1:{api.port}"
        with Publisher(url, max_message=2 * MAX_REQUEST_SIZE) as publisher:
            large = "x" * MAX_REQUEST_SIZE
            with pytest.raises(MessageTooLarge):
                publisher.publish("room:1", large)
            with pytest.raises(Incomplete) as caught:
                publisher.publish_many([("room:1", "a"), ("room:1", large), ("room:1", "b")])
        first, second, third = caught.value.results
        assert (first, type(second), third) == (0, MessageTooLarge, 0)

    def test_a_process_with_many_descriptors_uses_it(self, remote: Publisher) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(1100):
                stack.enter_context(Path(os.devnull).open())
            for _ in range(3):
                assert remote.publish("room:1", "x") == 0

    @forks
    @pytest.mark.parametrize("how", FORKS)
    @in_own_process
    def test_a_child_has_connections_of_its_own_also_in_many_threads(
        self, api: API, how: str
    ) -> None:
        url = f"http+sinapse://{KEY}@127.0.0.1:{api.port}"
        with Publisher(url, max_connections=3) as publisher:
            publisher.channels.add("1", "room:1")
            held = publisher._connections._pools()._idle[0]  # type: ignore[attr-defined]
            port = held.connection.sock.getsockname()[1]

            def use() -> None:
                barrier = threading.Barrier(8)

                def look(_: int) -> set[str]:
                    barrier.wait(EVENT_TIMEOUT)
                    return publisher.channels.list("1")

                with ThreadPoolExecutor(8) as pool:
                    assert list(pool.map(look, range(8))) == [{"room:1"}] * 8
                own = publisher._connections._pools()._idle  # type: ignore[attr-defined]
                assert port not in {each.connection.sock.getsockname()[1] for each in own}

            children = [in_child(use, FORKS[how]) for _ in range(4)]
            assert [exit_status(child) for child in children] == [0] * 4
            assert publisher.channels.list("1") == {"room:1"}

    def test_it_says_whom_a_message_is_not_for(self, remote: Publisher, listener: Listener) -> None:
        remote.publish("room:1", "a", but="mine")
        remote.publish_many([Outgoing("room:1", "b", retain=0, but="other")])
        assert [unpack(payload).but for _, payload in listener.heard()] == ["mine", "other"]

    def test_what_is_none_is_refused_as_ever(self, remote: Publisher) -> None:
        with pytest.raises(InvalidChannel):
            remote.publish("sinapse:x", "y")
        with pytest.raises(MessageTooLarge):
            remote.publish("room:1", "x" * (1024 * 1024 + 1))

    def test_what_went_wrong_is_said(self, api: API) -> None:
        with Publisher(f"http+sinapse://{OTHER}@127.0.0.1:{api.port}") as stranger:
            with pytest.raises(BrokerUnavailable, match="answers 401 a key is needed") as caught:
                stranger.publish("room:1", "x")
            assert caught.value.delivered is False
            assert OTHER not in f"{stranger!r} {caught.value}"
        with Publisher(f"http+sinapse://{KEY}@127.0.0.1:{free_port()}") as nowhere:
            with pytest.raises(BrokerUnavailable, match="refused") as caught:
                nowhere.publish("room:1", "x")
            assert caught.value.delivered is False

    def test_an_answer_that_is_lost_leaves_the_question(self, api: API) -> None:
        with running_proxy(api.port) as proxy:
            proxy.down = lambda _link, _data: b""
            url = f"http+sinapse://{KEY}@127.0.0.1:{proxy.port}"
            with Publisher(url, timeout=0.5) as publisher:
                with pytest.raises(BrokerUnavailable) as caught:
                    publisher.publish("room:1", "x")
                assert caught.value.delivered is None
                proxy.down = unchanged
                assert publisher.publish("room:1", "x") == 0

    def test_of_many_it_is_known_which_were_published(
        self, api: API, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sinapse.publisher.http.requests.MAX_MESSAGES_PER_REQUEST", 2)
        heard = bytearray()

        def lose_the_second(_link: object, data: bytes) -> bytes:
            heard.extend(data)
            return data if heard.count(b"HTTP/1.1 ") == 1 else b""

        with running_proxy(api.port) as proxy:
            proxy.down = lose_the_second
            url = f"http+sinapse://{KEY}@127.0.0.1:{proxy.port}"
            with Publisher(url, timeout=1) as publisher:
                operations = [
                    publisher.messages.publish("room:1", str(number), None, None, None)
                    for number in range(4)
                ]
                first, second, third, fourth = publisher._connections.run_all(operations)
        assert (first, second) == (0, 0)
        for lost in (third, fourth):
            assert isinstance(lost, BrokerUnavailable)
            assert lost.delivered is None

    def test_a_connection_that_was_closed_meanwhile_is_made_again(self, api: API) -> None:
        with running_proxy(api.port) as proxy:
            with Publisher(f"http+sinapse://{KEY}@127.0.0.1:{proxy.port}") as publisher:
                publisher.publish("room:1", "x")
                connections = publisher._connections
                assert isinstance(connections, HTTPConnections)
                (kept,) = connections._pools()._idle
                proxy.cut()
                eventually(lambda: kept.can_read(0))
                assert publisher.publish("room:1", "x") == 0
            assert proxy.connections == 2

    @pytest.mark.parametrize(
        "url",
        ["http+sinapse://h", "http+sinapse://:k@h", "http+sinapse://k@h/x", "https+sinapse://k@:1"],
    )
    def test_a_url_that_is_none(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"is written|nothing after the port"):
            Publisher(url)

    def test_those_that_do_not_wait_need_redis(self) -> None:
        with pytest.raises(ValueError, match="here, Redis is needed"):
            aio.Publisher(f"http+sinapse://{KEY}@localhost")


class TestRefusals:
    def test_without_a_key_nothing_is_done(self, api: API, publisher: Publisher) -> None:
        for key in (None, OTHER, "", KEY + "k"):
            answer = api.ask("PUT", "/v1/subjects/1/channels/room:1", key=key)
            assert (answer.status, answer.body) == (401, {"error": "a key is needed"})
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="sinapse-api"'
        assert publisher.channels.list("1") == set()

    @pytest.mark.parametrize(
        ("method", "path", "raw", "status", "says"),
        [
            ("POST", "/v1/publish", b"{", 400, "not JSON"),
            ("POST", "/v1/publish", b"", 400, "the body is empty"),
            ("DELETE", "/v1/subjects/1/sessions", b'{"but":"x"}', 400, "there is no body here"),
            ("GET", "/v1/position", b"{}", 400, "there is no body here"),
            ("POST", "/v1/publish", b'{"channel":"\xff"}', 400, "not JSON"),
            ("POST", "/v1/publish", b'{"message":' + b"[" * 100_000, 400, "not JSON"),
            ("POST", "/v1/publish", b"{}", 422, "missing required field `channel`"),
            ("POST", "/v1/publish", b'{"channel":"a","message":1,"x":1}', 422, "unknown field"),
            ("POST", "/v1/publish", b'{"channel":1,"message":1}', 422, "Expected `str`"),
            ("POST", "/v1/publish", b'{"channel":"a","message":"b","event":"\\n"}', 422, "event"),
            ("POST", "/v1/publish", b'{"channel":"a","message":"b","retain":-1}', 422, "retain"),
            ("POST", "/v1/publish", b'{"channel":"a","message":"b","replay":-1}', 422, "replay"),
            ("POST", "/v1/publish", b'{"channel":"a","message":"b","replay":"5"}', 422, "replay"),
            ("POST", "/v1/publish", b'{"channel":"a","message":"b","replay":true}', 422, "replay"),
            ("POST", "/v1/publish", b'{"channel":"a","message":1,"retain_messages":0}', 422, "1"),
            (
                "POST",
                "/v1/publish",
                b'{"channel":"a","message":1,"retain":0,"replay":1}',
                422,
                "not",
            ),
            ("GET", "/v1/channels/a/history?after=x", None, 422, "after is an id"),
            ("GET", "/v1/channels/a/history?after=", None, 422, "after is an id"),
            ("GET", "/v1/channels/a/history?limit=", None, 422, "limit is a whole number"),
            ("GET", "/v1/channels/a/history?limit=1&limit=2", None, 422, "more than once"),
            ("GET", "/v1/channels/a/history?from=1", None, 422, "no parameter 'from'"),
            ("GET", "/v1/channels/a/history?limit=0", None, 422, "limit is a whole number"),
            ("GET", "/v1/channels/a/history?limit=x", None, 422, "limit is a whole number"),
            ("GET", "/v1/channels/a/history?after=%ff", None, 400, "UTF-8"),
            ("GET", "/v1/channels/sinapse:x/history", None, 422, "reserved"),
            ("POST", "/v1/publish/many", b'{"messages":[]}', 422, "length >= 1"),
            ("POST", "/v1/subjects/1/token", b'{"expires_in":0}', 422, "expires_in"),
            ("POST", "/v1/subjects/1/sessions", b'{"device":""}', 422, "1 to 256 printable"),
            ("POST", "/v1/subjects/1/sessions", b'{"device":"\\n"}', 422, "1 to 256 printable"),
            ("POST", "/v1/subjects/1/sessions", b'{"device":"%b"}' % LONG, 422, "1 to 256 print"),
            ("POST", "/v1/subjects/1/sessions", b'{"device":1}', 422, "device"),
            ("POST", "/v1/subjects/1/sessions", b'{"only":[]}', 422, "only is empty"),
            ("POST", "/v1/subjects/1/sessions", b'{"only":["*"]}', 422, "all of the list"),
            ("POST", "/v1/subjects/1/sessions", b'{"only":["sinapse:*"]}', 422, "reserved"),
            ("POST", "/v1/subjects/1/sessions", b'{"only":[%b"a"]}' % MANY, 422, "100 at the most"),
            ("POST", "/v1/subjects/1/sessions", b'{"only":"a"}', 422, "only"),
            ("POST", "/v1/subjects/1/sessions", b'{"expires_in":0}', 422, "expires_in"),
            ("POST", "/v1/subjects/1/sessions", b'{"kind":"User"}', 422, "unknown field"),
            ("POST", "/v1/subjects/1/sessions", b"", 400, "the body is empty"),
            ("POST", "/v1/subjects/%00/sessions", b"{}", 422, "control characters"),
            ("GET", "/v1/subjects/%00/sessions", None, 422, "control characters"),
            ("PATCH", "/v1/subjects/1/sessions/x", b"{}", 422, "32 hexadecimal digits, not 'x'"),
            ("PATCH", f"/v1/subjects/1/sessions/{'0' * 32}", b'{"expires_in":0}', 422, "expires"),
            ("DELETE", "/v1/subjects/1/sessions/x", None, 422, "32 hexadecimal digits, not 'x'"),
            ("DELETE", "/v1/subjects/1/sessions/%ff", None, 400, "UTF-8"),
            ("DELETE", "/v1/subjects/1/sessions?but=%ff", None, 400, "UTF-8"),
            ("PUT", "/v1/subjects/1/channels/sinapse:x", None, 422, "reserved"),
            ("PUT", "/v1/subjects/1/channels/a", b'{"expires_in":0}', 422, "expires_in"),
            ("PUT", "/v1/subjects/1/channels/a", b'{"expires_in":"1"}', 422, "expires_in"),
            ("PUT", "/v1/subjects/1/channels/a", b'{"expires":1}', 422, "unknown field"),
            ("PUT", "/v1/subjects/1/channels/a", b"{", 400, "not JSON"),
            ("GET", "/v1/subjects/%ff/channels", None, 400, "UTF-8"),
            ("GET", "/v1/subjects/%00/channels", None, 422, "control characters"),
            ("PUT", "/v1/subjects/1/groups/a%20b", None, 422, "group 'a b': has white space"),
            ("PUT", "/v1/subjects/1/groups/a%C2%A0b", None, 422, "has white space"),
            ("PUT", "/v1/subjects/1/groups/%00", None, 422, "control characters"),
            ("PUT", f"/v1/subjects/1/groups/{'a' * 513}", None, 422, "512 bytes"),
            ("PUT", "/v1/subjects/1/groups/%ff", None, 400, "UTF-8"),
            ("PUT", "/v1/subjects/1/groups/a", b"{}", 400, "there is no body here"),
            ("POST", "/v1/subjects/1/groups", b"{}", 405, "method not allowed"),
            ("GET", "/v1/groups/a%20b/channels", None, 422, "has white space"),
            ("PUT", "/v1/groups/a/channels/sinapse:x", None, 422, "reserved"),
            ("GET", "/v1/groups/a%20b/members", None, 422, "has white space"),
            ("GET", "/v1/groups/a/members?after=", None, 422, "subject id ''"),
            ("GET", "/v1/groups/a/members?limit=0", None, 422, "limit is a whole number"),
            ("GET", "/v1/groups/a/members?limit=10001", None, 422, "limit is a whole number"),
            ("GET", f"/v1/groups/a/members?limit={'9' * 5000}", None, 422, "limit is a whole"),
            ("GET", "/v1/groups/a/members?limit=x", None, 422, "limit is a whole number"),
            ("GET", "/v1/nothing", None, 404, "nothing here"),
            ("GET", "/", None, 404, "nothing here"),
        ],
    )
    def test_a_request_that_is_none(  # noqa: PLR0917  # Rows of a table.
        self, api: API, method: str, path: str, raw: bytes | None, status: int, says: str
    ) -> None:
        answer = api.ask(method, path, raw=raw)
        assert (answer.status, says in answer.body["error"]) == (status, True), answer.body

    def test_another_method_and_another_type(self, api: API) -> None:
        answer = api.ask("PATCH", "/v1/publish")
        assert answer.status == 405
        assert answer.headers["Allow"] == "POST"
        assert api.ask("POST", "/v1/publish", raw=b"{}", Content_Type="text/plain").status == 415

    def test_while_redis_is_away_it_is_said_whether_it_can_have_been_done(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "redis").mkdir()
        with running_redis(tmp_path / "redis") as server:
            api = API(free_port(), tmp_path)
            api.keys.write_text(KEY)
            options = ("--api", f"tcp:{api.port}:interface=127.0.0.1", "--api-keys", str(api.keys))
            with running_daemon(tmp_path, server.url, *options):
                server.stop()
                answer = api.ask("POST", "/v1/publish", {"channel": "a", "message": "b"})
                assert answer.status == 503
                assert answer.headers["Retry-After"] == "2"
                assert answer.body["delivered"] is False
                server.start()
                message = {"channel": "a", "message": "b"}
                eventually(lambda: api.ask("POST", "/v1/publish", message).status == 200)


class TestKeys:
    def test_they_are_read_again(self, api: API, node: Daemon) -> None:
        former = api.keys.read_text()
        api.keys.write_text(f"{OTHER}\n")
        os.kill(node.pid, signal.SIGHUP)
        path = "/v1/subjects/1/channels"
        eventually(lambda: api.ask("GET", path, key=OTHER).status == 200)
        assert api.ask("GET", path).status == 401
        api.keys.write_text("short\n")
        os.kill(node.pid, signal.SIGHUP)
        eventually(lambda: "line 1: a key has 32 characters" in node.log)
        assert api.ask("GET", path, key=OTHER).status == 200
        api.keys.write_text(former)
        os.kill(node.pid, signal.SIGHUP)
        eventually(lambda: api.ask("GET", path).status == 200)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (None, "No such file or directory"),
            ("", "there is no key in it"),
            ("# nothing\n", "there is no key in it"),
            (f"{KEY}\nshort\n", "line 2: a key has 32 characters or more, no spaces"),
            (f"{KEY} {KEY}\n", "line 1: a key has 32 characters or more, no spaces"),
            ("\N{SNOWMAN}" * 32, "has characters that are not ASCII"),
        ],
    )
    def test_a_file_that_cannot_be_used_ends_the_start(
        self, tmp_path: Path, text: str | None, reason: str
    ) -> None:
        file = tmp_path / "keys"
        if text is not None:
            file.write_text(text)
        options = ("--api", f"tcp:{free_port()}", "--api-keys", str(file))
        daemon = Daemon(tmp_path, "redis://127.0.0.1:1", *options)
        assert daemon.launch().wait(30) == 1
        assert daemon.log.splitlines()[-1] == f"sinapse: --api-keys {str(file)!r}: {reason}"


class TestEnvironment:
    def test_the_daemon_says_how_many_sessions_there_may_be(
        self, tmp_path: Path, redis_server: RedisServer
    ) -> None:
        environment = {"SINAPSE_MAX_SESSIONS": "2"}
        api = API(free_port(), tmp_path)
        api.keys.write_text(KEY)
        options = ("--api", f"tcp:{api.port}:interface=127.0.0.1", "--api-keys", str(api.keys))
        with (
            running_daemon(tmp_path, redis_server.url, *options, environment=environment),
            Publisher(f"http+sinapse://{KEY}@127.0.0.1:{api.port}", max_sessions=1000) as remote,
        ):
            first = remote.sessions.open("1")
            remote.sessions.open("1")
            last = api.ask("POST", "/v1/subjects/1/sessions", {}).body
            assert last["ended"] == [first.id]

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("SINAPSE_MAX_SESSIONS", "SINAPSE_MAX_SESSIONS is a whole number, 1 to 1000: 'many'"),
            (
                "SINAPSE_RETAIN_MESSAGES",
                "SINAPSE_RETAIN_MESSAGES must be a number of messages, not 'many'",
            ),
        ],
    )
    def test_what_cannot_be_used_ends_the_start(
        self, tmp_path: Path, name: str, reason: str
    ) -> None:
        (tmp_path / "keys").write_text(KEY)
        options = ("--api", f"tcp:{free_port()}", "--api-keys", str(tmp_path / "keys"))
        daemon = Daemon(tmp_path, "redis://127.0.0.1:1", *options, environment={name: "many"})
        assert daemon.launch().wait(30) == 1
        assert daemon.log.splitlines()[-1] == f"sinapse: {reason}"
        assert "Traceback" not in daemon.log


class TestDocument:
    def test_anybody_may_read_it(self, api: API) -> None:
        answer = api.ask("GET", "/v1/openapi.json", key=None)
        assert answer.status == 200
        assert answer.body["openapi"] == "3.1.0"
        assert answer.body["servers"][0]["url"] == "/"
        assert answer.body["info"]["license"] == {"name": "MIT", "identifier": "MIT"}
        assert set(answer.body["paths"]) >= {"/v1/publish", "/v1/subjects/{subject}/token"}

    @pytest.mark.timeout(240)  # Many requests for each operation.
    def test_the_server_does_what_it_says(self, api: API) -> None:
        document = json.loads(json.dumps(api.ask("GET", "/v1/openapi.json").body))
        schema = schemathesis.openapi.from_dict(document)
        # The key is not to be drawn: for an operation that has nothing else, the draws would differ
        # from run to run.
        schema.config.update(base_url=f"http://127.0.0.1:{api.port}", headers=WITH_KEY)
        operations: list[Any] = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]
        assert len(operations) == 31
        for operation in operations:
            conforms(operation)


def conforms(operation: Any) -> None:
    """Try an operation with what its document says, and with what it does not say."""

    @given(case=operation.as_strategy())
    @settings(
        max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    def try_one(case: Any) -> None:
        # A name is bounded in bytes, which a schema cannot say.
        case.call_and_validate(headers=WITH_KEY, excluded_checks=[positive_data_acceptance])

    try_one()


def test_who_has_no_key_is_answered_before_a_body_is_sent(api: API) -> None:
    with socket.create_connection(("127.0.0.1", api.port), EVENT_TIMEOUT) as client:
        client.sendall(
            b"POST /v1/publish HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Expect: 100-continue\r\nContent-Length: 8000000\r\n\r\n"
        )
        received = b""
        while data := client.recv(65536):
            received += data
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b'WWW-Authenticate: Bearer realm="sinapse-api"' in head
    assert json.loads(body) == {"error": "a key is needed"}
