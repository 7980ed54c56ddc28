"""The plain interface of the publisher, against a real Redis."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from sinapse.errors import (
    InvalidChannel,
    InvalidEvent,
    InvalidMessage,
    InvalidSubject,
    MessageTooLarge,
    PublishError,
)
from sinapse.message import Message, unpack
from sinapse.publisher import Publisher
from sinapse.publisher.payload import encode
from sinapse.redisurl import RedisURL
from tests.listening import Listener, listening
from tests.support import RedisServer, eventually

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

NO_CHANNELS: list[Any] = [
    "",
    "a\nb",
    "a\0",
    "sinapse:tokens:a",
    "a" * 513,
    b"room:1",
    None,
    1,
    object(),
]
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
NO_SUBJECTS = [None, "", "a\nb", "a" * 513, b"1", 1.0, object(), {"id": 1}, type]
NO_KINDS = ["", "channels", "tokens", "a\nb", None, int]


@pytest.fixture
def publisher(redis_server: RedisServer) -> Iterator[Publisher]:
    with Publisher(redis_server.url) as publisher:
        yield publisher


@pytest.fixture
def listener(redis_server: RedisServer) -> Iterator[Listener]:
    with listening(redis_server) as listener:
        yield listener


def calls(client: redis.Redis) -> dict[str, int]:
    """Return how often each command was called, inside of scripts too."""
    statistics = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): each["calls"] for name, each in statistics.items()}


class TestPublish:
    @pytest.mark.parametrize(("message", "payload"), MESSAGES.values(), ids=MESSAGES)
    def test_the_exact_bytes(
        self, publisher: Publisher, listener: Listener, message: Any, payload: bytes
    ) -> None:
        publisher.publish("room:1", message)
        publisher.publish("room:1", message, event="msg")
        assert listener.heard() == [
            ("room:1", payload),
            ("room:1", b"\x92\xa3msg" + payload),
        ]

    def test_the_number_of_nodes_that_heard_it(
        self, publisher: Publisher, redis_server: RedisServer
    ) -> None:
        assert publisher.publish("room:1", "hello") == 0
        with listening(redis_server):
            assert publisher.publish("room:1", "hello") == 1
            with listening(redis_server):
                assert publisher.publish("room:1", "hello") == 2

    def test_messages_arrive_in_order(self, publisher: Publisher, listener: Listener) -> None:
        for number in range(200):
            publisher.publish(f"room:{number % 3}", number)
        assert [unpack(payload).data for _, payload in listener.heard()] == [
            str(number) for number in range(200)
        ]

    def test_database_numbers_do_not_separate_channels(
        self, redis_server: RedisServer, listener: Listener
    ) -> None:
        url = redis_server.url.removesuffix("0") + "3"
        with Publisher(url) as publisher:
            assert publisher.publish("room:1", "hello") == 1

    def test_it_takes_one_command(self, publisher: Publisher, redis_client: redis.Redis) -> None:
        publisher.publish("room:1", "hello")
        redis_client.config_resetstat()
        publisher.publish("room:1", "hello")
        assert calls(redis_client).items() >= {"publish": 1}.items()
        assert set(calls(redis_client)) <= {"publish", "info", "config|resetstat"}

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


class TestLimit:
    @pytest.mark.parametrize("character", ["a", "é", "日"])
    def test_bytes_of_data_count(
        self, redis_server: RedisServer, listener: Listener, character: str
    ) -> None:
        with Publisher(redis_server.url, max_message=12) as publisher:
            fits = character * (12 // len(character.encode()))
            publisher.publish("room:1", fits, event="event type of any length")
            publisher.publish("room:1", fits.encode())
            for message in (fits + character, (fits + character).encode(), [fits]):
                with pytest.raises(MessageTooLarge, match="over 12 bytes"):
                    publisher.publish("room:1", message)
        assert [unpack(payload).data for _, payload in listener.heard()] == [fits, fits]

    def test_a_mebibyte_by_default(self, publisher: Publisher, listener: Listener) -> None:
        publisher.publish("room:1", "a" * 2**20)
        with pytest.raises(MessageTooLarge):
            publisher.publish("room:1", "a" * (2**20 + 1))
        [(_, payload)] = listener.heard()
        assert payload == b"\xdb\x00\x10\x00\x00" + b"a" * 2**20

    def test_the_environment_sets_it(
        self, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SINAPSE_MAX_MESSAGE", "10")
        with Publisher(redis_server.url) as publisher:
            publisher.publish("room:1", "a" * 10)
            with pytest.raises(MessageTooLarge):
                publisher.publish("room:1", "a" * 11)
        monkeypatch.setenv("SINAPSE_MAX_MESSAGE", "")
        assert Publisher(redis_server.url).max_message == 2**20

    @pytest.mark.parametrize("text", ["1k", "-1", "1.5", "²"])
    def test_a_limit_that_is_no_number_is_refused(
        self, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        monkeypatch.setenv("SINAPSE_MAX_MESSAGE", text)
        with pytest.raises(ValueError, match="SINAPSE_MAX_MESSAGE"):
            Publisher(redis_server.url)


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
        assert unpack(encode(text, event, 2**20)) == Message(text, event)
        assert unpack(encode(text.encode(), event, 2**20)) == Message(text, event)

    @given(json_values, events)
    def test_values_arrive_as_compact_json(self, value: Any, event: str | None) -> None:
        message = unpack(encode(value, event, 2**20))
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
            ("sinapse:channels:7:add", b"room:1"),
            ("sinapse:channels:7:remove", b"room:1"),
        ]

    def test_a_change_is_told_even_if_the_list_was_so_already(
        self, publisher: Publisher, listener: Listener
    ) -> None:
        publisher.channels.add("7", "room:1")
        assert publisher.channels.add("7", "room:1") is False
        assert publisher.channels.remove("7", "room:2") is False
        assert listener.heard() == [
            ("sinapse:channels:7:add", b"room:1"),
            ("sinapse:channels:7:add", b"room:1"),
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
        assert {channel for channel, _ in heard} == {"sinapse:channels:7:remove"}
        assert sorted(payload.decode() for _, payload in heard) == sorted(names)
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
        assert [channel for channel, _ in listener.heard()] == [
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
        inside = {"add": "sadd", "remove": "srem"}[operation]
        assert made.items() >= {"evalsha": 1, inside: 1, "publish": 1}.items()
        assert set(made) <= {"evalsha", inside, "publish", "info", "config|resetstat"}

    def test_a_redis_that_forgot_the_scripts_is_told_again(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        publisher.channels.add("7", "room:1")
        redis_client.script_flush()
        assert publisher.channels.add("7", "room:2")
        assert publisher.channels.list("7") == {"room:1", "room:2"}


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

    @pytest.mark.parametrize(
        "seconds", [0, -1, -0.5, float("nan"), float("inf"), 10**10 + 1, "60", [60]]
    )
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
        monkeypatch.setattr("sinapse.publisher.tokens.new_token", lambda: next(drawn))
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
        self, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REDIS_URL", redis_server.url)
        with listening(redis_server), Publisher() as publisher:
            assert publisher.publish("room:1", "hello") == 1

    def test_a_url_may_be_parsed_already(self, redis_server: RedisServer) -> None:
        with Publisher(RedisURL.parse(redis_server.url)) as publisher:
            assert publisher.publish("room:1", "hello") == 0

    def test_without_a_setting_it_is_the_redis_of_this_machine(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("REDIS_URL", raising=False)
        assert repr(Publisher()) == "<Publisher redis://localhost:6379/0>"

    @pytest.mark.parametrize("url", ["", "http://localhost", "redis://h:port"])
    def test_a_url_that_cannot_be_read_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"scheme|cannot be read"):
            Publisher(url)

    def test_nothing_shows_the_password(self) -> None:
        publisher = Publisher("redis://bob:secret@h:7000/1")
        assert repr(publisher) == "<Publisher redis://h:7000/1>"
        assert "secret" not in repr(publisher.url)

    def test_a_closed_publisher_opens_again(
        self, redis_server: RedisServer, redis_client: redis.Redis
    ) -> None:
        publisher = Publisher(redis_server.url)
        before = len(redis_client.client_list())
        publisher.publish("room:1", "hello")
        assert len(redis_client.client_list()) == before + 1
        publisher.close()
        eventually(lambda: len(redis_client.client_list()) == before, "it is closed")
        with publisher:
            publisher.publish("room:1", "hello")
        eventually(lambda: len(redis_client.client_list()) == before, "it is closed again")
