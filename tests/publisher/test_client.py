"""The plain interface of the publisher, against a real Redis."""

from __future__ import annotations

import json
import pickle
import uuid
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sinapse.errors import (
    BrokerUnavailable,
    InvalidChannel,
    InvalidEvent,
    InvalidMessage,
    InvalidSubject,
    MessageTooLarge,
    PublishError,
    UnknownID,
)
from sinapse.protocol.ids import EventID, is_event_id
from sinapse.protocol.message import Message, pack, pack_retained, unpack
from sinapse.protocol.redisurl import RedisURL
from sinapse.publisher import History, Outgoing, Publishable, Published, Publisher, Retained, inbox
from sinapse.publisher.operations.content import checked
from sinapse.publisher.operations.history import PAGE_BYTES
from tests.support import RedisServer, eventually
from tests.support.flavours import Flavour
from tests.support.listening import Listener, listening
from tests.support.publishing import NO_CHANNELS, NO_LIFETIMES, NO_SUBJECTS, calls

MESSAGES = {
    "text": ("hello", b"\xa5hello"),
    "empty text": ("", b"\xa0"),
    "UTF-8 text": ("é", b"\xa2\xc3\xa9"),
    "a number in text": ("42", b"\xa242"),
    "lines": ("a\r\nb\n", b"\xa5a\r\nb\n"),
    "bytes": (b"hello", b"\xa5hello"),
    "UTF-8 bytes": ("é".encode(), b"\xa2\xc3\xa9"),
    "an object": ({"a": 1, "é": [1.5, None]}, b"\xb7" + '{"a":1,"é":[1.5,null]}'.encode()),
    "a list": ([1, "b"], b"\xa7" + b'[1,"b"]'),
    "a tuple": ((1, 2), b"\xa5[1,2]"),
    "an integer": (42, b"\xa242"),
    "a float": (0.5, b"\xa30.5"),
    "true": (True, b"\xa4true"),
    "nothing": (None, b"\xa4null"),
}

NO_EVENTS: list[Any] = ["", "a\nb", "a\rb", "a\0b", "\ud800", "a" * 513, b"message", 1, ["message"]]
NO_MESSAGES = [
    b"\xff\xfe",
    "\ud800",
    "a\udfffb",
    ["\ud800"],
    float("nan"),
    {"a": float("inf")},
    {1, 2},
    {(1, 2): 3},
    {"a": b"bytes"},
    bytearray(b"hello"),
    Decimal(1),
    object(),
    10**5000,
]
NO_TIMES: list[Any] = [-1, -0.001, float("nan"), float("inf"), 30 * 24 * 3600 + 1, "60", [60], True]
NO_COUNTS: list[Any] = [True, 0, -1, 1_000_001, 1.5, "10"]
NO_REPLAYS: list[Any] = [True, False, -1, 1.0, float("nan"), "some", "ALL", "5", "", b"all", [1]]
NO_MESSAGE_IDS: list[Any] = ["", "a" * 129, "a\nb", "a\0", "\ud800", b"id", 1]
NO_KINDS = ["", "channels", "tokens", "a\nb", None, int]


@pytest.fixture
def redis_server(emptied_redis: RedisServer) -> RedisServer:
    """Return a Redis of this module's own, which may lose its data."""
    return emptied_redis


@pytest.fixture
def publisher(flavour: Flavour, redis_server: RedisServer) -> Iterator[Publisher]:
    with flavour(redis_server.url) as publisher:
        yield publisher


def position(client: Any) -> EventID:
    """Return the id of the last message that is retained."""
    epoch, counter = client.hmget("sinapse:retention", "epoch", "counter")
    return EventID(epoch.decode(), int(counter))


def test_several_redis_are_given_as_one_text_or_as_several() -> None:
    urls = ["redis://127.0.0.1:1/0", "redis://127.0.0.1:2/0"]
    assert Publisher(" ".join(urls)).urls == Publisher(urls).urls
    assert Publisher([RedisURL.parse(each) for each in urls]).urls == Publisher(urls).urls


class TestPublish:
    @pytest.mark.parametrize(("message", "payload"), MESSAGES.values(), ids=MESSAGES)
    def test_the_exact_bytes(
        self, publisher: Publisher, listener: Listener, message: Any, payload: bytes
    ) -> None:
        publisher.publish("room:1", message, retain=0)
        publisher.publish("room:1", message, event="msg", retain=0)
        assert listener.heard() == [
            ("room:1", payload),
            ("room:1", b"\x92\xa3msg" + payload),
        ]

    @pytest.mark.parametrize(("message", "payload"), MESSAGES.values(), ids=MESSAGES)
    def test_the_exact_bytes_when_it_is_retained(
        self,
        publisher: Publisher,
        listener: Listener,
        redis_client: Any,
        message: Any,
        payload: bytes,
    ) -> None:
        publisher.publish("room:1", message)
        publisher.publish("room:1", message, event="msg")
        epoch, counter, _ = position(redis_client)
        ids = [f"{epoch}-{counter - 1}".encode(), f"{epoch}-{counter}".encode()]
        expected = [
            b"\x93\xc0%b%c%b" % (payload, 0xA0 + len(ids[0]), ids[0]),
            b"\x93\xa3msg%b%c%b" % (payload, 0xA0 + len(ids[1]), ids[1]),
        ]
        assert listener.heard() == [("room:1", each) for each in expected]
        kept = redis_client.xrange("sinapse:retained:room:1")
        assert [fields[b"p"] for _, fields in kept] == expected

    def test_the_number_of_nodes_that_heard_it(
        self, publisher: Publisher, redis_server: RedisServer
    ) -> None:
        assert publisher.publish("room:1", "hello") == 0
        with listening(redis_server):
            assert publisher.publish("room:1", "hello") == 1
            with listening(redis_server):
                assert publisher.publish("room:1", "hello") == 2

    def test_one_to_a_subject_adds_its_inbox_to_the_list_once(
        self, publisher: Publisher, listener: Listener
    ) -> None:
        sent = publisher.publish_to(42, "hello", "note", retain=0)
        publisher.publish_to("42", "again")
        assert sent.id is not None
        assert publisher.channels.list("42") == {"inbox@42"}
        assert [name for name, _ in listener.heard()] == [
            *("sinapse:channels:42:grant", "sinapse:channels:42:add"),
            *("inbox@42", "inbox@42"),
        ]
        assert [each.event for each in publisher.history(inbox(42)).messages] == ["note", None]

    def test_messages_arrive_in_order(self, publisher: Publisher, listener: Listener) -> None:
        for number in range(200):
            publisher.publish(f"room:{number % 3}", number)
        assert [unpack(payload).data for _, payload in listener.heard()] == [
            str(number) for number in range(200)
        ]

    def test_database_numbers_do_not_separate_channels(
        self, flavour: Flavour, redis_server: RedisServer, listener: Listener
    ) -> None:
        url = redis_server.url.removesuffix("0") + "3"
        with flavour(url) as publisher:
            assert publisher.publish("room:1", "hello") == 1

    @pytest.mark.parametrize("retain", [0, 60])
    @pytest.mark.parametrize("message_id", [None, "a"])
    def test_it_takes_one_round_trip(
        self, publisher: Publisher, redis_client: redis.Redis, retain: int, message_id: str | None
    ) -> None:
        publisher.publish("room:1", "hello", retain=retain, message_id=message_id)
        redis_client.flushall()
        redis_client.config_resetstat()
        publisher.publish("room:1", "hello", retain=retain, message_id=message_id)
        made = calls(redis_client)
        assert made["publish"] == 1
        assert made["evalsha"] == 1
        assert "eval" not in made

    def test_nothing_invalid_is_sent(self, publisher: Publisher, listener: Listener) -> None:
        for channel in NO_CHANNELS:
            with pytest.raises(InvalidChannel):
                publisher.publish(channel, "hello")
        for event in NO_EVENTS:
            with pytest.raises(InvalidEvent):
                publisher.publish("room:1", "hello", event)
        for message in NO_MESSAGES:
            with pytest.raises(InvalidMessage):
                publisher.publish("room:1", message)
        for retain in NO_TIMES:
            with pytest.raises(ValueError, match="retain is seconds"):
                publisher.publish("room:1", "hello", retain=retain)
        for replay in NO_REPLAYS:
            with pytest.raises(ValueError, match="replay is a whole number"):
                publisher.publish("room:1", "hello", replay=replay)
        for count in NO_COUNTS:
            with pytest.raises(ValueError, match="retain_messages is a whole number"):
                publisher.publish("room:1", "hello", retain_messages=count)
        for message_id in NO_MESSAGE_IDS:
            for retain in (0, 60):
                with pytest.raises(ValueError, match="message_id is"):
                    publisher.publish("room:1", "hello", retain=retain, message_id=message_id)
        assert listener.heard() == []

    def test_what_refers_to_itself_is_no_message(self, publisher: Publisher) -> None:
        endless: list[object] = []
        endless.append(endless)
        deep: list[object] = []
        for _ in range(200_000):
            deep = [deep]
        for message in (endless, deep):
            with pytest.raises(InvalidMessage):
                publisher.publish("room:1", message)

    def test_invalid_input_is_a_value_error_too(self, publisher: Publisher) -> None:
        with pytest.raises(ValueError, match="reserved") as raised:
            publisher.publish("sinapse:", "hello")
        assert isinstance(raised.value, PublishError)


def lifetime(client: Any, key: str) -> float:
    """Return the seconds that a key has left, to the next five."""
    return -(-int(client.pttl(key)) // 5000) * 5.0


class TestRetention:
    def test_it_is_five_minutes_and_a_thousand_messages_by_default(
        self, publisher: Publisher, redis_client: Any
    ) -> None:
        for number in range(1005):
            publisher.publish("room:1", number)
        assert lifetime(redis_client, "sinapse:retained:room:1") == 300
        kept = redis_client.xrange("sinapse:retained:room:1")
        assert [unpack(fields[b"p"]).data for _, fields in kept] == [
            str(number) for number in range(5, 1005)
        ]

    def test_a_message_says_how_long_it_is_retained(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        for number, retain in enumerate((60, 60.5, 30 * 24 * 3600, 1e-6)):
            publisher.publish(f"room:{number}", "hello", retain=retain)
        assert lifetime(redis_client, "sinapse:retained:room:0") == 60
        assert lifetime(redis_client, "sinapse:retained:room:1") == 65
        # That it had messages is known for a day after the last one is gone.
        assert lifetime(redis_client, "sinapse:retained:room:2") == (30 + 1) * 24 * 3600
        gone = "sinapse:retained:room:3"
        eventually(lambda: not redis_client.exists(gone), "a millisecond is over")

    def test_ids_grow_over_all_channels(self, publisher: Publisher, listener: Listener) -> None:
        for number in range(30):
            publisher.publish(f"room:{number % 3}", "hello")
        ids = [str(unpack(payload).id) for _, payload in listener.heard()]
        parsed = [EventID.parse(text) for text in ids]
        assert {each.epoch for each in parsed if each} == {ids[0].partition("-")[0]}
        counters = [each.counter for each in parsed if each]
        assert counters == list(range(counters[0], counters[0] + 30))

    def test_what_is_not_retained_leaves_nothing(
        self,
        flavour: Flavour,
        redis_server: RedisServer,
        redis_client: redis.Redis,
        listener: Listener,
    ) -> None:
        with flavour(redis_server.url, retain=0) as publisher:
            assert publisher.publish("room:1", "hello", event="msg") == 1
            assert redis_client.keys() == []
            publisher.publish("room:1", "hello", retain=60)
            assert redis_client.exists("sinapse:retained:room:1")
        plain, retained = (unpack(payload) for _, payload in listener.heard())
        assert plain.id is None
        assert is_event_id(retained.id)

    def test_an_object_says_how_long_its_messages_are_retained(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        class Room:
            sinapse_channel = "room:1"
            sinapse_retain = 60

        publisher.publish(Room(), "hello")
        assert lifetime(redis_client, "sinapse:retained:room:1") == 60
        publisher.publish(Room(), "hello", retain=90)
        assert lifetime(redis_client, "sinapse:retained:room:1") == 90

    def test_the_publisher_says_how_long_and_how_many(
        self, flavour: Flavour, redis_server: RedisServer, redis_client: redis.Redis
    ) -> None:
        with flavour(redis_server.url, retain=20.5, retain_messages=3) as publisher:
            for _ in range(5):
                publisher.publish("room:1", "hello")
        assert lifetime(redis_client, "sinapse:retained:room:1") == 25
        assert redis_client.xlen("sinapse:retained:room:1") == 3

    def test_the_environment_says_how_long_and_how_many(
        self,
        flavour: Flavour,
        redis_server: RedisServer,
        redis_client: redis.Redis,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("SINAPSE_RETAIN", "20.5")
        monkeypatch.setenv("SINAPSE_RETAIN_MESSAGES", "3")
        with flavour(redis_server.url) as publisher:
            for _ in range(5):
                publisher.publish("room:1", "hello")
        assert lifetime(redis_client, "sinapse:retained:room:1") == 25
        assert redis_client.xlen("sinapse:retained:room:1") == 3
        monkeypatch.setenv("SINAPSE_RETAIN", "0")
        with flavour(redis_server.url) as publisher:
            publisher.publish("room:2", "hello")
        assert not redis_client.exists("sinapse:retained:room:2")
        for name in ("SINAPSE_RETAIN", "SINAPSE_RETAIN_MESSAGES"):
            monkeypatch.setenv(name, "")
        with flavour(redis_server.url) as publisher:
            publisher.publish("room:3", "hello")
        assert lifetime(redis_client, "sinapse:retained:room:3") == 300

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            *(("SINAPSE_RETAIN", text) for text in ("-1", "nan", "inf", "5m", "2592001")),
            *(("SINAPSE_RETAIN_MESSAGES", text) for text in ("0", "-1", "1.5", "many")),
        ],
    )
    def test_a_setting_that_cannot_be_used_is_named(
        self, flavour: Flavour, monkeypatch: pytest.MonkeyPatch, name: str, text: str
    ) -> None:
        monkeypatch.setenv(name, text)
        with pytest.raises(ValueError, match=f"{name} "):
            flavour("redis://h")

    def test_a_parameter_that_cannot_be_used_is_named(self, flavour: Flavour) -> None:
        for retain in NO_TIMES:
            with pytest.raises(ValueError, match="retain is seconds"):
                flavour("redis://h", retain=retain)
        for count in NO_COUNTS:
            with pytest.raises(ValueError, match="retain_messages is a whole number"):
                flavour("redis://h", retain_messages=count)


class TestPublished:
    def test_it_is_the_number_of_nodes_with_the_id_of_the_message(
        self, publisher: Publisher, listener: Listener
    ) -> None:
        published = publisher.publish("room:1", "hello")
        [(_, payload)] = listener.heard()
        assert (published, published.id) == (1, unpack(payload).id)
        assert published.id == publisher.position()
        assert publisher.publish("room:1", "plain", retain=0).id is None
        assert publisher.publish("room:1", "plain", retain=0, message_id="a").id is None

    def test_several_channels_have_the_sum_and_no_id(
        self, publisher: Publisher, listener: Listener
    ) -> None:
        published = publisher.publish(["room:1", "room:2"], "hello")
        assert (published, published.id) == (2, None)
        assert publisher.publish(["room:1"], "hello").id == publisher.position()

    def test_each_of_many_has_its_own(self, publisher: Publisher, listener: Listener) -> None:
        publisher.publish("room:1", "first", message_id="a")
        messages = [
            Outgoing("room:1", "again", message_id="a"),
            *(Outgoing(f"room:{number % 2}", "hello") for number in range(5)),
            Outgoing("room:1", "plain", retain=0),
            Outgoing("room:1", "last"),
        ]
        results = publisher.publish_many(messages)
        heard = [unpack(payload).id for _, payload in listener.heard()]
        assert [each.id for each in results] == heard
        assert results == [0, *[1] * 7]

    @pytest.mark.parametrize("again", [0, 60])
    def test_what_is_repeated_has_the_id_of_the_first(
        self, publisher: Publisher, redis_client: redis.Redis, again: int
    ) -> None:
        first = publisher.publish("room:1", "hello", message_id="a")
        publisher.publish("room:1", "other")
        repeated = publisher.publish("room:1", "hello", message_id="a", retain=again)
        assert (repeated, repeated.id) == (0, first.id)
        redis_client.set("sinapse:sent:b", "")  # As publishers before version 1.0 wrote it.
        assert publisher.publish("room:1", "hello", message_id="b", retain=again).id is None

    def test_it_is_a_number_wherever_one_is_wanted(self) -> None:
        published = Published(2, "ab-5")
        assert (published + 1, f"{published}", str(published), json.dumps([published])) == (
            3,
            "2",
            "2",
            "[2]",
        )
        assert repr(published) == "<Published 2, id ab-5>"
        copied = pickle.loads(pickle.dumps(published))
        assert (copied, copied.id) == (2, "ab-5")


class TestReplay:
    """How much of its past a new stream gets of a channel."""

    def test_it_is_noted_for_the_channel(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        noted = partial(redis_client.hget, "sinapse:replay", "room:1")
        publisher.publish("room:1", "hello", replay="all")
        assert noted() == b"all"
        publisher.publish("room:1", "hello")
        publisher.publish("room:1", "hello", retain=0)
        assert noted() == b"all"
        publisher.publish("room:1", "hello", replay=1)
        assert noted() == b"1"
        publisher.publish("room:1", "hello", replay=0)
        assert noted() is None

    def test_as_many_as_are_kept_are_all(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        for replay, most, noted in (
            (999, None, b"999"),
            (1000, None, b"all"),
            (10**30, None, b"all"),
            (4, 5, b"4"),
            (5, 5, b"all"),
            (5000, 5001, b"5000"),
        ):
            publisher.publish("room:1", "hello", replay=replay, retain_messages=most)
            assert redis_client.hget("sinapse:replay", "room:1") == noted

    def test_a_class_says_it(self, publisher: Publisher, redis_client: redis.Redis) -> None:
        class Room(Publishable):
            sinapse_channel = "room:1"
            sinapse_retain_messages = 3
            sinapse_replay = 2

        class Quiet(Publishable):
            sinapse_channel = "room:1"
            sinapse_retain = 0
            sinapse_replay = "all"

        for number in range(5):
            publisher.publish(Room(), number)
        assert redis_client.hget("sinapse:replay", "room:1") == b"2"
        assert redis_client.xlen("sinapse:retained:room:1") == 3
        publisher.publish(Quiet(), "without effect")
        assert redis_client.hget("sinapse:replay", "room:1") == b"2"
        publisher.publish(Room(), "all", replay="all", retain_messages=4)
        assert redis_client.hget("sinapse:replay", "room:1") == b"all"
        assert redis_client.xlen("sinapse:retained:room:1") == 4

    def test_what_is_not_retained_can_have_none(
        self, flavour: Flavour, redis_server: RedisServer, listener: Listener
    ) -> None:
        class Quiet:
            sinapse_channel = "quiet"
            sinapse_retain = 0

        with flavour(redis_server.url) as publisher:
            for channel, retain in (("room:1", 0), (Quiet(), None)):
                for replay in (0, 1, "all"):
                    with pytest.raises(ValueError, match="this one is not"):
                        publisher.publish(channel, "hello", retain=retain, replay=replay)
        with flavour(redis_server.url, retain=0) as publisher:
            with pytest.raises(ValueError, match="this one is not"):
                publisher.publish("room:1", "hello", replay=1)
            publisher.publish("room:1", "hello", replay=1, retain=60)
        assert [name for name, _ in listener.heard() if not name.startswith("sinapse:")] == [
            "room:1"
        ]

    def test_many_say_it_each_for_its_channel(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        publisher.publish("c", "a", message_id="x")
        publisher.publish_many(
            [
                Outgoing("a", "1", replay=5),
                ("b", "1"),
                {"channel": "a", "message": "2", "replay": "all"},
                Outgoing("c", "1", message_id="x", replay="all"),
                Outgoing("d", "1", replay=1),
                Outgoing("d", "2", replay=0),
                Outgoing("e", "1", replay=0),
                Outgoing("e", "2", message_id="y", replay=7, retain_messages=8),
            ]
        )
        assert redis_client.hgetall("sinapse:replay") == {b"a": b"all", b"e": b"7"}

    def test_a_key_of_another_type_is_named_and_nothing_is_done(
        self, publisher: Publisher, redis_client: redis.Redis, listener: Listener
    ) -> None:
        redis_client.set("sinapse:replay", "x")
        for messages in ([], [Outgoing(f"room:{number}", "a") for number in range(20)]):
            with pytest.raises(BrokerUnavailable, match="sinapse:replay") as raised:
                publisher.publish_many([*messages, Outgoing("room:1", "hello", replay=1)])
            assert raised.value.delivered is False
        assert listener.heard() == []
        assert redis_client.keys("sinapse:retained:*") == []
        assert publisher.publish("room:1", "hello") == 1


class TestHistory:
    def test_it_is_what_is_retained_oldest_first(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        assert publisher.history("room:1") == History((), missing=False, more=False)
        ids = []
        for number in range(5):
            ids.append(publisher.publish("room:1", {"n": number}, event="count").id)
            publisher.publish("room:2", "other")
        page = publisher.history("room:1")
        assert [each.id for each in page.messages] == ids
        assert [each.message for each in page.messages] == [{"n": n} for n in range(5)]
        assert {each.event for each in page.messages} == {"count"}
        assert (page.missing, page.more) == (False, False)
        after = publisher.history("room:1", ids[2])
        assert after == History(page.messages[3:], missing=False, more=False)
        assert publisher.history("room:1", publisher.position()).messages == ()

    @settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=60),
        st.integers(1, 70),
        st.integers(1, 70),
    )
    def test_pages_of_any_length_joined_are_the_whole(
        self,
        redis_process: RedisServer,
        messages: list[tuple[str, bool]],
        limit: int,
        kept: int,
    ) -> None:
        with redis_process.client() as client, Publisher(redis_process.url) as publisher:
            client.flushall()
            outgoing = [
                Outgoing(channel, str(number), "e" if has_event else None, retain_messages=kept)
                for number, (channel, has_event) in enumerate(messages)
            ]
            results = publisher.publish_many(outgoing)
            for name in "ab":
                expected = [
                    Retained(str(each.id), one.event, str(one.message))
                    for one, each in zip(outgoing, results, strict=True)
                    if one.channel == name
                ]
                pages = [publisher.history(name, limit=limit)]
                assert pages[0].missing is (len(expected) > kept)
                while pages[-1].more:
                    pages.append(publisher.history(name, pages[-1].messages[-1].id, limit))
                    assert not pages[-1].missing
                assert [each for page in pages for each in page.messages] == expected[-kept:]
                assert all(1 <= len(page.messages) <= limit for page in pages[:-1])
                for number, each in enumerate(expected):
                    page = publisher.history(name, each.id, 1000)
                    assert page.missing is (number + 1 < len(expected) - kept)

    def test_what_has_expired_is_missing(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        first = publisher.publish("room:1", "kept")
        second = publisher.publish("room:1", "short", retain=1e-3)
        third = publisher.publish("room:1", "kept, too")
        eventually(lambda: len(publisher.history("room:1").messages) == 2)
        for after, missing in ((None, True), (first.id, True), (second.id, False)):
            page = publisher.history("room:1", after)
            assert (page.missing, page.messages[-1].id) == (missing, third.id)
        redis_client.delete("sinapse:retained:room:1")
        assert publisher.history("room:1") == History((), missing=True, more=False)
        assert publisher.history("room:1", second.id).missing
        assert not publisher.history("room:1", third.id).missing

    def test_a_channel_of_which_no_message_is_known_misses_none(self, publisher: Publisher) -> None:
        for number in range(3):
            publisher.publish(f"room:{number}", "first")
            assert not publisher.history(f"room:{number}").missing
        publisher.publish_many([("room:3", "first"), ("room:3", "second")])
        assert not publisher.history("room:3").missing

    def test_long_messages_make_short_pages(self, publisher: Publisher) -> None:
        large = "a" * (PAGE_BYTES // 2)
        publisher.publish_many([("room:1", large)] * 5)
        sizes, page = [], publisher.history("room:1")
        while page.more:
            sizes.append(len(page.messages))
            page = publisher.history("room:1", page.messages[-1].id)
        assert [*sizes, len(page.messages)] == [2, 2, 1]

    def test_an_id_of_a_former_epoch_goes_on_in_this_one(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        first, second = (publisher.publish("room:1", data) for data in ("a", "b"))
        redis_client.hset("sinapse:retention", "run", "another")
        third = publisher.publish("room:1", "c")
        assert str(third.id).partition("-")[0] != str(first.id).partition("-")[0]
        page = publisher.history("room:1", first.id)
        assert [each.data for each in page.messages] == ["b", "c"]
        assert page.messages[-1].id == third.id
        # A page can go on after any of them.
        assert [
            each.data for each in publisher.history("room:1", page.messages[0].id).messages
        ] == ["c"]
        assert publisher.history("room:1", second.id).messages == page.messages[1:]
        # One that came after the end of its epoch was lost.
        epoch, counter = str(second.id).split("-")
        with pytest.raises(UnknownID):
            publisher.history("room:1", f"{epoch}-{int(counter) + 1}")
        redis_client.hset("sinapse:epochs", epoch, "-1")
        with pytest.raises(UnknownID):
            publisher.history("room:1", first.id)

    def test_an_id_that_was_never_given_is_told(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        epoch, counter = str(publisher.publish("room:1", "a").id).split("-")
        for after in (f"{epoch}-{int(counter) + 1}", f"ab-{counter}", "0-0", f"{epoch}-1.ab-5"):
            with pytest.raises(UnknownID, match="was never given") as raised:
                publisher.history("room:1", after)
            assert isinstance(raised.value, ValueError)

    def test_what_a_daemon_adds_to_an_id_does_not_count(self, publisher: Publisher) -> None:
        first = publisher.publish("room:1", "a").id
        publisher.publish("room:1", "b")
        expected = publisher.history("room:1", first)
        for more in ("-5", "-17954321234568-0"):
            assert publisher.history("room:1", f"{first}{more}") == expected

    @pytest.mark.parametrize(
        "after",
        [
            *("", "a", "1", "ab-", "-5", "ab-05", "AB-5", "ab-5-6-7-8", "ab-5.", ".ab-5", "ab-5\n"),
            *("ab-5 ", "é-5", f"ab-{10**14}", "ab-1" + ".ab-1" * 2000, 5, b"ab-5", True),
        ],
    )
    def test_what_is_no_id_is_refused(self, publisher: Publisher, after: Any) -> None:
        with pytest.raises(ValueError, match="after is an id"):
            publisher.history("room:1", after)

    @pytest.mark.parametrize("limit", [0, -1, 1001, 1.5, True, "10", None])
    def test_a_limit_that_is_none_is_refused(self, publisher: Publisher, limit: Any) -> None:
        with pytest.raises(ValueError, match="limit is a whole number, 1 to 1000"):
            publisher.history("room:1", limit=limit)

    def test_a_channel_that_is_none_is_refused(self, publisher: Publisher) -> None:
        with pytest.raises(InvalidChannel):
            publisher.history("sinapse:x")

    def test_it_is_one_round_trip_and_writes_nothing(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        first = publisher.publish("room:1", "a")
        publisher.history("room:1")
        keys = {key: redis_client.dump(key) for key in redis_client.scan_iter()}
        redis_client.config_resetstat()
        publisher.history("room:1", first.id)
        assert calls(redis_client)["evalsha"] == 1
        assert {key: redis_client.dump(key) for key in redis_client.scan_iter()} == keys

    def test_what_is_no_message_is_left_out_and_missing(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        first = publisher.publish("room:1", "a")
        counter = int(str(first.id).split("-")[1]) + 1
        entry = f"{counter}-{10**13 * 9}"
        redis_client.xadd("sinapse:retained:room:1", {"p": b"\xc1", "b": counter - 1}, entry)
        redis_client.hset("sinapse:retention", "counter", counter)
        page = publisher.history("room:1")
        assert ([each.data for each in page.messages], page.missing) == (["a"], True)

    def test_a_key_of_another_type_is_named(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        redis_client.set("sinapse:retained:room:1", "x")
        with pytest.raises(BrokerUnavailable, match="sinapse:retained:room:1"):
            publisher.history("room:1")


class TestPosition:
    def test_it_is_the_id_of_the_last_retained_message_whatever_its_channel(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        for channel in ("room:1", "room:2", "room:1"):
            publisher.publish(channel, "hello")
            assert publisher.position() == str(position(redis_client))
        last = publisher.position()
        publisher.publish("room:1", "plain", retain=0)
        assert publisher.position() == last

    def test_it_is_one_command_and_writes_nothing(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        publisher.position()  # Connected.
        for _ in range(2):  # In an empty Redis, too, no epoch begins.
            redis_client.config_resetstat()
            publisher.position()
            made = calls(redis_client)
            assert {name: made[name] for name in made if not name.startswith("config")} == {
                "hmget": 1
            }
            publisher.publish("room:1", "hello")

    @pytest.mark.parametrize(
        "there",
        [
            {},
            {"epoch": "ab"},
            {"counter": "7"},
            {"epoch": "None", "counter": "7"},
            {"epoch": "ab", "counter": "-7"},
            {"epoch": "ab", "counter": "9" * 5000},
        ],
        ids=["nothing", "no counter", "no epoch", "another epoch", "another counter", "digits"],
    )
    def test_where_no_id_is_it_is_one_that_was_never_given(
        self, publisher: Publisher, redis_client: redis.Redis, there: dict[str, str]
    ) -> None:
        for field, value in there.items():
            redis_client.hset("sinapse:retention", field, value)
        assert publisher.position() == ("ab-0" if there == {"epoch": "ab"} else "0-0")

    def test_a_key_of_another_type_is_named(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        redis_client.set("sinapse:retention", "x")
        with pytest.raises(BrokerUnavailable, match="sinapse:retention"):
            publisher.position()


class TestMessageId:
    @pytest.mark.parametrize("retain", [0, 60])
    def test_a_message_is_published_once(
        self, publisher: Publisher, listener: Listener, redis_client: redis.Redis, retain: int
    ) -> None:
        for message_id in ("a", "b", "a", "b", "é" * 128):
            publisher.publish("room:1", message_id, retain=retain, message_id=message_id)
        heard = [unpack(payload).data for _, payload in listener.heard()]
        assert heard == ["a", "b", "é" * 128]
        assert redis_client.xlen("sinapse:retained:room:1") == (3 if retain else 0)

    @pytest.mark.parametrize("retain", [0, 60])
    def test_a_repetition_was_heard_by_nobody(
        self, publisher: Publisher, listener: Listener, retain: int
    ) -> None:
        assert publisher.publish("room:1", "hello", retain=retain, message_id="a") == 1
        assert publisher.publish("room:1", "hello", retain=retain, message_id="a") == 0

    @pytest.mark.parametrize(("retain", "seconds"), [(0, 7200), (60, 7200), (9000, 9000)])
    def test_it_is_remembered_for_as_long_as_the_message(
        self, publisher: Publisher, redis_client: redis.Redis, retain: int, seconds: int
    ) -> None:
        publisher.publish("room:1", "hello", retain=retain, message_id="a")
        assert lifetime(redis_client, "sinapse:sent:a") == seconds

    def test_messages_without_one_are_all_published(
        self, publisher: Publisher, listener: Listener
    ) -> None:
        for _ in range(3):
            publisher.publish("room:1", "hello")
        assert len(listener.heard()) == 3

    def test_a_message_that_could_not_be_written_may_be_published_again(
        self, publisher: Publisher, listener: Listener, redis_client: redis.Redis
    ) -> None:
        redis_client.set("sinapse:retained:room:1", "no stream")
        with pytest.raises(BrokerUnavailable) as raised:
            publisher.publish("room:1", "hello", message_id="a")
        assert raised.value.delivered is False
        redis_client.delete("sinapse:retained:room:1")
        assert publisher.publish("room:1", "hello", message_id="a") == 1
        assert [name for name, _ in listener.heard() if not name.startswith("sinapse:")] == [
            "room:1"
        ]


class TestLimit:
    @pytest.mark.parametrize("character", ["a", "é", "日"])
    def test_bytes_of_data_count(
        self, flavour: Flavour, redis_server: RedisServer, listener: Listener, character: str
    ) -> None:
        with flavour(redis_server.url, max_message=12) as publisher:
            fits = character * (12 // len(character.encode()))
            publisher.publish("room:1", fits, event="event type of any length")
            publisher.publish("room:1", fits.encode())
            for message in (fits + character, (fits + character).encode(), [fits]):
                with pytest.raises(MessageTooLarge, match="over 12 bytes"):
                    publisher.publish("room:1", message)
        assert [unpack(payload).data for _, payload in listener.heard()] == [fits, fits]

    def test_a_mebibyte_by_default(self, publisher: Publisher, listener: Listener) -> None:
        publisher.publish("room:1", "a" * 2**20, retain=0)
        with pytest.raises(MessageTooLarge):
            publisher.publish("room:1", "a" * (2**20 + 1))
        [(_, payload)] = listener.heard()
        assert payload == b"\xdb\x00\x10\x00\x00" + b"a" * 2**20

    def test_the_environment_sets_it(
        self, flavour: Flavour, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SINAPSE_MAX_MESSAGE", "10")
        with flavour(redis_server.url) as publisher:
            publisher.publish("room:1", "a" * 10)
            with pytest.raises(MessageTooLarge):
                publisher.publish("room:1", "a" * 11)
        monkeypatch.setenv("SINAPSE_MAX_MESSAGE", "")
        assert flavour(redis_server.url).max_message == 2**20

    @pytest.mark.parametrize("text", ["1k", "-1", "1.5", "²"])
    def test_a_limit_that_is_no_number_is_refused(
        self,
        flavour: Flavour,
        redis_server: RedisServer,
        monkeypatch: pytest.MonkeyPatch,
        text: str,
    ) -> None:
        monkeypatch.setenv("SINAPSE_MAX_MESSAGE", text)
        with pytest.raises(ValueError, match="SINAPSE_MAX_MESSAGE"):
            flavour(redis_server.url)


texts = st.text(st.characters(exclude_categories=["Cs"]))
events = st.none() | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"),
    min_size=1,
    max_size=100,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner | texts) | st.dictionaries(texts, inner | texts),
)


class TestPayload:
    @given(texts, events)
    def test_text_and_event_arrive_as_they_were(self, text: str, event: str | None) -> None:
        message = Message(text, event)
        assert checked(text, event, 2**20) == checked(text.encode(), event, 2**20) == message
        assert unpack(pack(message)) == message
        identified = pack_retained(message) + b"\xa5abc-1"
        assert unpack(identified) == message._replace(id="abc-1")

    @given(json_values, events)
    def test_values_arrive_as_compact_json(self, value: Any, event: str | None) -> None:
        message = unpack(pack(checked(value, event, 2**20)))
        assert json.loads(message.data) == value
        assert message.event == event


class TestChannels:
    def test_add_and_remove_change_the_list_and_tell_the_nodes(
        self, publisher: Publisher, listener: Listener, redis_client: redis.Redis
    ) -> None:
        assert publisher.channels.add("7", "room:1") is True
        assert redis_client.smembers("sinapse:channels:7") == {b"room:1"}
        assert publisher.channels.has("7", "room:1") is True
        assert publisher.channels.remove("7", "room:1") is True
        assert redis_client.exists("sinapse:channels:7") == 0
        assert publisher.channels.has("7", "room:1") is False
        assert listener.heard() == [
            ("sinapse:channels:7:grant", b"0 room:1"),
            ("sinapse:channels:7:add", b"room:1"),
            ("sinapse:channels:7:withdraw", b"0 room:1"),
            ("sinapse:channels:7:remove", b"room:1"),
        ]

    def test_a_grant_tells_from_which_id_on_messages_are_missed(
        self, publisher: Publisher, listener: Listener, redis_client: redis.Redis
    ) -> None:
        publisher.publish("room:1", "hello")
        listener.heard()
        publisher.channels.add("7", "a room")
        assert listener.heard() == [
            ("sinapse:channels:7:grant", b"%d a room" % position(redis_client).counter),
            ("sinapse:channels:7:add", b"a room"),
        ]

    def test_a_change_is_told_even_if_the_list_was_so_already(
        self, publisher: Publisher, listener: Listener
    ) -> None:
        publisher.channels.add("7", "room:1")
        assert publisher.channels.add("7", "room:1") is False
        assert publisher.channels.remove("7", "room:2") is False
        assert listener.heard() == [
            ("sinapse:channels:7:grant", b"0 room:1"),
            ("sinapse:channels:7:add", b"room:1"),
            ("sinapse:channels:7:grant", b"0 room:1"),
            ("sinapse:channels:7:add", b"room:1"),
            ("sinapse:channels:7:withdraw", b"0 room:2"),
            ("sinapse:channels:7:remove", b"room:2"),
        ]

    def test_the_list_is_of_one_subject(self, publisher: Publisher) -> None:
        publisher.channels.add(7, "room:1")
        publisher.channels.add("7", "日本")
        publisher.channels.add("8", "room:3")
        assert publisher.channels.list("7") == {"room:1", "日本"}
        assert publisher.channels.list(8) == {"room:3"}
        assert publisher.channels.list("9") == set()

    def test_clear_empties_the_list_and_tells_of_each(
        self, publisher: Publisher, listener: Listener, redis_client: redis.Redis
    ) -> None:
        names = {f"room:{number}" for number in range(20)}
        for name in names:
            publisher.channels.add("7", name)
        publisher.channels.add("8", "room:1")
        listener.heard()
        assert publisher.channels.clear("7") == 20
        assert publisher.channels.list("7") == set()
        assert publisher.channels.list("8") == {"room:1"}
        heard = listener.heard()
        for action, prefix in (("withdraw", "0 "), ("remove", "")):
            told = [payload for channel, payload in heard if channel.endswith(f":7:{action}")]
            assert sorted(each.decode() for each in told) == sorted(prefix + name for name in names)
        assert len(heard) == 2 * len(names)
        assert publisher.channels.clear("7") == 0
        assert listener.heard() == []

    def test_a_list_that_another_program_wrote_is_read(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        redis_client.sadd("sinapse:channels:7", "room:1", b"\xff")
        assert publisher.channels.list("7") == {"room:1", "\N{REPLACEMENT CHARACTER}"}

    def test_ids_may_be_numbers_uuids_and_text_with_colons(
        self, publisher: Publisher, listener: Listener
    ) -> None:
        number = uuid.UUID(int=1)
        for subject in (7, number, "a:b:add"):
            publisher.channels.add(subject, "room:1")
        assert [channel for channel, _ in listener.heard()][1::2] == [
            "sinapse:channels:7:add",
            f"sinapse:channels:{number}:add",
            "sinapse:channels:a:b:add:add",
        ]

    @pytest.mark.parametrize("operation", ["add", "remove", "has"])
    def test_nothing_invalid_is_sent(
        self, publisher: Publisher, listener: Listener, redis_client: redis.Redis, operation: str
    ) -> None:
        operate = getattr(publisher.channels, operation)
        for channel in NO_CHANNELS:
            with pytest.raises(InvalidChannel):
                operate("7", channel)
        for subject in NO_SUBJECTS:
            with pytest.raises(InvalidSubject):
                operate(subject, "room:1")
        assert listener.heard() == []
        assert redis_client.keys() == []

    @pytest.mark.parametrize("operation", ["list", "clear"])
    def test_whole_lists_are_of_subjects_only(self, publisher: Publisher, operation: str) -> None:
        for subject in NO_SUBJECTS:
            with pytest.raises(InvalidSubject):
                getattr(publisher.channels, operation)(subject)

    @pytest.mark.parametrize("operation", ["add", "remove"])
    def test_a_change_is_one_round_trip(
        self, publisher: Publisher, redis_client: redis.Redis, operation: str
    ) -> None:
        getattr(publisher.channels, operation)("7", "room:1")
        redis_client.config_resetstat()
        getattr(publisher.channels, operation)("7", "room:1")
        made = calls(redis_client)
        inside = {
            "add": {"hget": 2, "hexists": 1, "sadd": 1, "publish": 2, "time": 1},
            "remove": {"hget": 2, "hdel": 1, "srem": 1, "publish": 2},
        }[operation] | {"zscore": 1}
        assert made.items() >= {"evalsha": 1, **inside}.items()
        assert set(made) <= {"evalsha", *inside, "info", "config|resetstat"}

    def test_a_redis_that_forgot_the_scripts_is_told_again(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        publisher.channels.add("7", "room:1")
        redis_client.script_flush()
        assert publisher.channels.add("7", "room:2")
        assert publisher.channels.list("7") == {"room:1", "room:2"}


class TestGrantsThatEnd:
    """``expires_in`` of a grant. No daemon runs here: what has ended is still in the set."""

    def test_it_is_there_until_then(self, publisher: Publisher, redis_client: Any) -> None:
        seconds, microseconds = redis_client.time()
        assert publisher.channels.add("7", "room:1", expires_in=60) is True
        publisher.channels.add("7", "room:2")
        assert publisher.channels.list("7") == {"room:1", "room:2"}
        assert publisher.channels.has("7", "room:1") is True
        [(member, end)] = redis_client.zrange("sinapse:ends", 0, -1, withscores=True)
        assert member == b"7\nroom:1"
        assert 0 <= end - (seconds * 1000 + microseconds // 1000) - 60_000 < 30_000

    def test_then_nobody_finds_it(self, publisher: Publisher, redis_client: redis.Redis) -> None:
        publisher.channels.add("7", "room:2", 60)
        publisher.channels.add("7", "room:1", 0.02)
        eventually(lambda: not publisher.channels.has("7", "room:1"), "it ends")
        assert publisher.channels.list("7") == {"room:2"}
        assert publisher.channels.remove("7", "room:1") is False
        assert publisher.channels.clear("7") == 1
        assert redis_client.keys() == []

    def test_a_list_of_what_has_ended_counts_none_of_it(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        for number in range(3):
            publisher.channels.add("7", f"room:{number}", 0.02)
        publisher.channels.add("7", "news")
        eventually(lambda: publisher.channels.list("7") == {"news"}, "they end")
        assert publisher.channels.clear("7") == 1
        assert redis_client.keys() == []

    def test_nodes_are_told_when_the_next_one_ends_and_of_no_later_one(
        self, publisher: Publisher, listener: Listener
    ) -> None:
        def told() -> list[tuple[str, bytes]]:
            return [each for each in listener.heard() if each[0].endswith(":end")]

        publisher.channels.add("7", "room:1", 60)
        assert told() == [("sinapse:channels:7:end", b"60000")]
        publisher.channels.add("8", "room:1", 120)
        publisher.channels.add("8", "room:2")
        assert told() == []
        publisher.channels.add("8", "room:2", 30.5)
        assert told() == [("sinapse:channels:8:end", b"30500")]

    def test_adding_it_again_moves_the_end_either_way(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        publisher.channels.add("7", "room:1", 0.05)
        assert publisher.channels.add("7", "room:1", 60) is False
        start = redis_client.time()[0]
        eventually(lambda: redis_client.time()[0] > start, "the former end has passed")
        assert publisher.channels.has("7", "room:1")
        assert publisher.channels.add("7", "room:1", 0.02) is False
        eventually(lambda: not publisher.channels.has("7", "room:1"), "it ends")

    def test_adding_it_again_without_a_time_makes_it_last(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        publisher.channels.add("7", "room:1", 60)
        assert publisher.channels.add("7", "room:1") is False
        assert redis_client.exists("sinapse:ends") == 0

    @pytest.mark.parametrize("how", ["remove", "clear"])
    def test_what_is_removed_and_added_later_lasts(
        self, publisher: Publisher, redis_client: redis.Redis, how: str
    ) -> None:
        publisher.channels.add("7", "room:1", 60)
        if how == "remove":
            assert publisher.channels.remove("7", "room:1") is True
        else:
            assert publisher.channels.clear("7") == 1
        assert redis_client.exists("sinapse:ends") == 0

    def test_added_after_its_end_it_is_a_new_grant(
        self, publisher: Publisher, listener: Listener, redis_client: redis.Redis
    ) -> None:
        publisher.publish("room:1", "before")
        before = position(redis_client).counter
        publisher.channels.add("7", "room:1", 0.02)
        eventually(lambda: not publisher.channels.has("7", "room:1"), "it ends")
        redis_client.hincrby("sinapse:retention", "counter", 5)
        listener.heard()
        assert publisher.channels.add("7", "room:1") is True
        assert listener.heard() == [
            ("sinapse:channels:7:withdraw", b"%d room:1" % (before + 5)),
            ("sinapse:channels:7:remove", b"room:1"),
            ("sinapse:channels:7:grant", b"%d room:1" % (before + 5)),
            ("sinapse:channels:7:add", b"room:1"),
        ]
        # Nothing from before is read for it.
        assert redis_client.hgetall("sinapse:grants:7") == {b"room:1": b"%d" % (before + 5)}

    @pytest.mark.parametrize("how", ["plain", "once", "retained", "several"])
    def test_it_ends_before_the_next_message_is_heard(
        self, publisher: Publisher, listener: Listener, redis_client: redis.Redis, how: str
    ) -> None:
        publisher.publish("news", "before")
        before = position(redis_client).counter
        publisher.channels.add("7", "room:1", 0.02)
        publisher.channels.add("7", "room:2", 60)
        eventually(lambda: not publisher.channels.has("7", "room:1"), "it ends")
        listener.heard()
        if how == "plain":
            publisher.publish("room:1", "after", retain=0)
        elif how == "once":
            publisher.publish("room:1", "after", retain=0, message_id="a")
        elif how == "retained":
            publisher.publish("room:1", "after")
        else:
            publisher.publish_many([("room:1", "after"), ("room:1", "later")])
        first, second, *messages = listener.heard()
        assert first == ("sinapse:channels:7:withdraw", b"%d room:1" % before)
        assert second == ("sinapse:channels:7:remove", b"room:1")
        assert {channel for channel, _ in messages} == {"room:1"}
        assert redis_client.smembers("sinapse:channels:7") == {b"room:2"}
        assert redis_client.zrange("sinapse:ends", 0, -1) == [b"7\nroom:2"]

    def test_several_redis_have_the_ends_of_their_channels(
        self, flavour: Flavour, redis_server: RedisServer
    ) -> None:
        urls = " ".join(f"{redis_server.url[:-1]}{number}" for number in (0, 1))
        names = [f"room:{number}" for number in range(20)]
        with flavour(urls) as publisher:
            for name in names[:10]:
                publisher.channels.add("7", name, 0.02)
            for name in names[10:]:
                publisher.channels.add("7", name, 60)
            eventually(lambda: len(publisher.channels.list("7")) == 10, "some end")
            assert publisher.channels.list("7") == set(names[10:])
            assert publisher.channels.clear("7") == 10

    def test_whose_list_is_none_keeps_nobody_from_publishing(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        publisher.channels.add("7", "room:1", 0.02)
        eventually(lambda: not publisher.channels.has("7", "room:1"), "it ends")
        redis_client.set("sinapse:channels:7", "no set")
        redis_client.set("sinapse:grants:7", "no hash")
        publisher.publish("news", "hello")
        assert redis_client.exists("sinapse:ends") == 0

    def test_ends_that_somebody_else_has_overwritten_are_kept_anew(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        redis_client.set("sinapse:ends", "no sorted set")
        publisher.channels.add("7", "room:1")
        publisher.publish("room:1", "hello")
        publisher.publish("room:1", "hello", retain=0)
        assert publisher.channels.list("7") == {"room:1"}
        publisher.channels.add("7", "room:1", 60)
        assert redis_client.zrange("sinapse:ends", 0, -1) == [b"7\nroom:1"]

    @pytest.mark.parametrize("seconds", NO_LIFETIMES)
    def test_no_time_to_come_is_none(
        self, publisher: Publisher, redis_client: redis.Redis, seconds: Any
    ) -> None:
        with pytest.raises(ValueError, match="expires_in is seconds, over 0 and up to"):
            publisher.channels.add("7", "room:1", expires_in=seconds)
        assert redis_client.keys() == []


class TestTokens:
    def test_a_new_token_stands_for_the_subject(
        self, publisher: Publisher, listener: Listener, redis_client: redis.Redis
    ) -> None:
        token = publisher.tokens.generate("7")
        assert redis_client.get(f"sinapse:tokens:{token}") == b"7"
        assert redis_client.get("sinapse:User:7") == token.encode()
        assert publisher.tokens.get("7") == token
        assert redis_client.ttl(f"sinapse:tokens:{token}") == -1
        assert listener.heard() == []

    @pytest.mark.parametrize("replace", ["generate", "reset"])
    def test_another_one_revokes_the_former(
        self, publisher: Publisher, listener: Listener, redis_client: redis.Redis, replace: str
    ) -> None:
        former = publisher.tokens.generate("7")
        token = getattr(publisher.tokens, replace)("7")
        assert token != former
        assert publisher.tokens.get("7") == token
        assert redis_client.keys("sinapse:tokens:*") == [f"sinapse:tokens:{token}".encode()]
        assert listener.heard() == [("sinapse:channels:7:revoke", former.encode())]

    def test_clear_leaves_nothing_and_ends_the_streams(
        self, publisher: Publisher, listener: Listener, redis_client: redis.Redis
    ) -> None:
        token = publisher.tokens.generate("7")
        assert publisher.tokens.clear("7") is True
        assert redis_client.keys() == []
        assert publisher.tokens.get("7") is None
        assert listener.heard() == [("sinapse:channels:7:revoke", token.encode())]
        assert publisher.tokens.clear("7") is False
        assert listener.heard() == []

    def test_each_kind_has_its_own(
        self, publisher: Publisher, listener: Listener, redis_client: redis.Redis
    ) -> None:
        user = publisher.tokens.generate("7")
        admin = publisher.tokens.generate("7", "Admin")
        assert publisher.tokens.get("7") == user
        assert publisher.tokens.get("7", "Admin") == admin
        assert redis_client.get("sinapse:Admin:7") == admin.encode()
        assert listener.heard() == []
        publisher.tokens.clear("7", kind="Admin")
        assert publisher.tokens.get("7", "Admin") is None
        assert publisher.tokens.get("7") == user

    def test_clearing_leaves_the_channels(self, publisher: Publisher) -> None:
        publisher.tokens.generate("7")
        publisher.channels.add("7", "room:1")
        publisher.tokens.clear("7")
        assert publisher.channels.list("7") == {"room:1"}

    def test_an_expired_token_vanishes(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        publisher.tokens.generate("7", expires_in=0.02)
        eventually(lambda: publisher.tokens.get("7") is None, "the token expires")
        eventually(lambda: redis_client.dbsize() == 0, "nothing is left")

    @pytest.mark.parametrize("seconds", [60, 60.5, 10**10])
    def test_both_keys_expire_in_the_given_time(
        self, publisher: Publisher, redis_client: redis.Redis, seconds: Any
    ) -> None:
        token = publisher.tokens.generate("7", expires_in=seconds)
        for key in (f"sinapse:tokens:{token}", "sinapse:User:7"):
            assert seconds * 1000 - 30_000 < redis_client.pttl(key) <= seconds * 1000

    def test_a_new_token_without_expiry_stays(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        publisher.tokens.generate("7", expires_in=60)
        token = publisher.tokens.generate("7")
        assert redis_client.pttl(f"sinapse:tokens:{token}") == -1
        assert redis_client.pttl("sinapse:User:7") == -1

    def test_a_thousandth_of_a_millisecond_is_a_millisecond(self, publisher: Publisher) -> None:
        publisher.tokens.generate("7", expires_in=1e-6)
        eventually(lambda: publisher.tokens.get("7") is None, "the token expires")

    @pytest.mark.parametrize("seconds", NO_LIFETIMES)
    def test_no_time_to_come_is_no_lifetime(
        self, publisher: Publisher, redis_client: redis.Redis, seconds: Any
    ) -> None:
        for operation in (publisher.tokens.generate, publisher.tokens.reset):
            with pytest.raises(ValueError, match="expires_in"):
                operation("7", expires_in=seconds)
        assert redis_client.keys() == []

    def test_a_token_that_exists_is_never_given_to_another(
        self, publisher: Publisher, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        taken = publisher.tokens.generate("7")
        drawn = iter([taken, taken, "another"])
        monkeypatch.setattr("sinapse.publisher.operations.tokens.new_token", lambda: next(drawn))
        assert publisher.tokens.generate("8") == "another"
        assert redis_client.get(f"sinapse:tokens:{taken}") == b"7"
        assert publisher.tokens.get("7") == taken

    def test_a_current_token_that_expired_meanwhile_is_no_obstacle(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        former = publisher.tokens.generate("7")
        redis_client.delete(f"sinapse:tokens:{former}")
        token = publisher.tokens.generate("7")
        assert publisher.tokens.get("7") == token

    @pytest.mark.parametrize("operation", ["get", "generate", "reset", "clear"])
    def test_nothing_invalid_is_sent(
        self, publisher: Publisher, redis_client: redis.Redis, operation: str
    ) -> None:
        operate = getattr(publisher.tokens, operation)
        for subject in NO_SUBJECTS:
            with pytest.raises(InvalidSubject):
                operate(subject)
        for kind in NO_KINDS:
            with pytest.raises(InvalidSubject):
                operate("7", kind)
        assert redis_client.keys() == []

    @pytest.mark.parametrize("operation", ["generate", "clear"])
    def test_each_operation_is_one_round_trip(
        self, publisher: Publisher, redis_client: redis.Redis, operation: str
    ) -> None:
        publisher.tokens.generate("7")
        publisher.tokens.clear("7")
        publisher.tokens.generate("7")
        redis_client.config_resetstat()
        getattr(publisher.tokens, operation)("7")
        made = calls(redis_client)
        assert made.items() >= {"evalsha": 1, "publish": 1}.items()
        assert "eval" not in made


class TestSettings:
    def test_the_environment_names_the_redis(
        self, flavour: Flavour, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REDIS_URL", redis_server.url)
        with listening(redis_server), flavour() as publisher:
            assert publisher.publish("room:1", "hello") == 1

    def test_a_url_may_be_parsed_already(self, flavour: Flavour, redis_server: RedisServer) -> None:
        with flavour(RedisURL.parse(redis_server.url)) as publisher:
            assert publisher.publish("room:1", "hello") == 0

    def test_without_a_setting_it_is_the_redis_of_this_machine(
        self, flavour: Flavour, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("REDIS_URL", raising=False)
        assert repr(flavour()) == "<Publisher redis://localhost:6379/0>"

    @pytest.mark.parametrize("url", ["", "http://localhost", "redis://h:port"])
    def test_a_url_that_cannot_be_read_is_refused(self, flavour: Flavour, url: str) -> None:
        with pytest.raises(ValueError, match=r"scheme|cannot be read"):
            flavour(url)

    def test_nothing_shows_the_password(self, flavour: Flavour) -> None:
        publisher = flavour("redis://bob:secret@h:7000/1")
        assert repr(publisher) == "<Publisher redis://h:7000/1>"
        assert "secret" not in repr(publisher.url)

    def test_a_closed_publisher_opens_again(
        self, flavour: Flavour, redis_server: RedisServer, redis_client: redis.Redis
    ) -> None:
        publisher = flavour(redis_server.url)
        before = len(redis_client.client_list())
        publisher.publish("room:1", "hello")
        assert len(redis_client.client_list()) == before + 1
        publisher.close()
        eventually(lambda: len(redis_client.client_list()) == before, "it is closed")
        with publisher:
            publisher.publish("room:1", "hello")
        eventually(lambda: len(redis_client.client_list()) == before, "it is closed again")
