"""What applications test with: messages that are captured, and what a failure says."""

from __future__ import annotations

import asyncio
import unittest
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from sinapse import publisher as library
from sinapse.errors import (
    BrokerUnavailable,
    InvalidChannel,
    InvalidEvent,
    InvalidGroup,
    InvalidMessage,
    InvalidSubject,
    ListFull,
    UnknownID,
)
from sinapse.protocol.ids import is_event_id
from sinapse.protocol.keys import MAX_GROUP_CHANNELS, MAX_GROUPS
from sinapse.publisher import History, Publishable, Publisher, Subject, aio
from sinapse.testing import (
    Messages,
    Publication,
    SinapseTestMixin,
    assert_publishes,
    capture,
    captured,
    refute_publishes,
)
from tests.support import eventually
from tests.support.flavours import Flavour

#: Nobody listens there: whoever asks it fails.
NOWHERE = "redis://127.0.0.1:1"


@dataclass
class User(Subject):
    id: int = 7


@dataclass
class Room(Publishable):
    id: int = 1


@pytest.fixture(autouse=True)
def no_redis() -> Iterator[None]:
    """Have nothing but errors where anything is sent."""
    former = library.use(Publisher(NOWHERE))
    former_aio = aio.use(aio.Publisher(NOWHERE))
    yield
    library.use(former)
    aio.use(former_aio)


def text_of(expect: Callable[[], object]) -> str:
    """Return what a failure says."""
    with pytest.raises(AssertionError) as raised:
        expect()
    return str(raised.value)


class TestCapture:
    def test_messages_are_written_down_as_they_would_be_sent(self, flavour: Flavour) -> None:
        with capture() as messages, flavour(NOWHERE, retain=60) as publisher:
            assert publisher.publish("room:1", {"a": "é"}, event="msg") == 1
            assert publisher.publish(Room(2), b"text", retain=0, message_id="x") == 1
            assert publisher.publish("room:1", "again", message_id="x") == 0
        assert list(messages) == [
            Publication("room:1", '{"a":"é"}', "msg", 60.0, None),
            Publication("room:2", "text", None, 0.0, "x"),
        ]
        assert [each.message for each in messages] == [{"a": "é"}, "text"]

    def test_those_of_the_default_publisher_and_the_mixins_too(self) -> None:
        @dataclass
        class Hall(aio.Publishable):
            id: int = 3

        with capture() as messages:
            Room().publish("hello")
            library.default().publish("news", "hello")
            asyncio.run(Hall().publish("hello"))
        assert [each.channel for each in messages] == ["room:1", "news", "hall:3"]

    def test_one_for_a_subject_adds_its_inbox_to_the_list(self, flavour: Flavour) -> None:
        with capture() as messages, flavour(NOWHERE) as publisher:
            publisher.publish_to("42", "hello")
            assert publisher.channels.list("42") == {"inbox@42"}
        assert [(each.channel, each.data) for each in messages] == [("inbox@42", "hello")]

    def test_what_is_invalid_raises_as_ever(self, flavour: Flavour) -> None:
        with capture() as messages, flavour(NOWHERE, max_message=10) as publisher:
            for error, wrong in {
                InvalidChannel: lambda: publisher.publish("sinapse:x", "hello"),
                InvalidEvent: lambda: publisher.publish("room:1", "hello", event="a\nb"),
                InvalidMessage: lambda: publisher.publish("room:1", object()),
                InvalidSubject: lambda: publisher.channels.add("", "room:1"),
            }.items():
                with pytest.raises(error):
                    wrong()
            with pytest.raises(ValueError, match="over 10 bytes"):
                publisher.publish("room:1", "a" * 11)
            with pytest.raises(ValueError, match="expires_in"):
                publisher.tokens.generate("7", expires_in=0)
        assert len(messages) == 0

    def test_lists_of_channels_are_kept_in_memory(self, flavour: Flavour) -> None:
        with capture(), flavour(NOWHERE) as publisher:
            assert publisher.channels.add("7", "room:1") is True
            assert publisher.channels.add("7", "room:1") is False
            assert publisher.channels.add(7, "news") is True
            assert publisher.channels.list("7") == {"room:1", "news"}
            assert publisher.channels.has("7", "news") is True
            assert publisher.channels.remove("7", "news") is True
            assert publisher.channels.remove("7", "news") is False
            assert publisher.channels.has("7", "news") is False
            assert publisher.channels.list("8") == set()
            assert publisher.channels.clear("7") == 1
            assert publisher.channels.clear("7") == 0

    def test_grants_end_in_memory(self, flavour: Flavour) -> None:
        with capture(), flavour(NOWHERE) as publisher:
            assert publisher.channels.add("7", "room:1", expires_in=60) is True
            assert publisher.channels.add("7", "room:2", 0.02) is True
            assert publisher.channels.add("7", "news", 0.02) is True
            assert publisher.channels.add("7", "news") is False
            eventually(lambda: not publisher.channels.has("7", "room:2"))
            assert publisher.channels.list("7") == {"room:1", "news"}
            assert publisher.channels.remove("7", "room:2") is False
            assert publisher.channels.add("7", "room:1", 0.02) is False
            eventually(lambda: publisher.channels.list("7") == {"news"})
            assert publisher.channels.clear("7") == 1

    def test_tokens_are_kept_in_memory(self, flavour: Flavour) -> None:
        with capture(), flavour(NOWHERE) as publisher:
            tokens = publisher.tokens
            assert tokens.get("7") is None
            assert tokens.renew("7") is False
            token = tokens.generate("7", expires_in=100)
            assert len(token) == 86
            assert tokens.get("7") == token
            assert tokens.get("7", "Admin") is None
            assert tokens.obtain("7") == token
            assert tokens.renew("7", expires_in=100) is True
            assert tokens.reset("7") != token
            assert tokens.clear("7") is True
            assert tokens.clear("7") is False
            assert tokens.obtain("7", expires_in=1e-3) != token
            while tokens.get("7") is not None:
                pass
            assert tokens.renew("7") is False
            token = tokens.obtain("7", expires_in=0.05)
            assert tokens.renew("7", expires_in=100) is True
            while tokens.obtain("7", expires_in=0.05) == token:
                pass
            token = tokens.obtain("7")
            assert tokens.obtain("7", expires_in=1e-3) == token

    def test_sessions_are_kept_in_memory(self, flavour: Flavour) -> None:
        with capture(), flavour(NOWHERE, max_sessions=3, hash_tokens=True) as publisher:
            sessions = publisher.sessions
            assert sessions.list("7") == []
            phone = sessions.open("7", device="phone", expires_in=60, only=["news", "room:*"])
            laptop, tablet = sessions.open("7"), sessions.open(7)
            assert len({phone.token, laptop.token, tablet.token}) == 3
            first, second, third = sessions.list("7")
            assert (first.id, first.device, first.only, first.seen) == (
                *(phone.id, "phone"),
                *(frozenset({"news", "room:*"}), None),
            )
            assert first.opened <= second.opened <= third.opened
            assert first.expires is not None
            assert 59 < first.expires - first.opened < 120
            assert (second.device, second.only, second.expires) == (None, None, None)
            assert sessions.open("7").ended == (phone.id,)
            assert sessions.end("8", laptop.id) is False
            assert sessions.end("7", laptop.id) is True
            assert sessions.end("7", laptop.id) is False
            assert sessions.renew("7", laptop.id) is False
            assert sessions.end_all("7", but=tablet.id) == 1
            assert [each.id for each in sessions.list("7")] == [tablet.id]
            assert sessions.end_all("7") == 1
            assert sessions.end_all("7") == 0
            with pytest.raises(ValueError, match="a session's id is"):
                sessions.end("7", "x")
            with pytest.raises(InvalidChannel, match="only is empty"):
                sessions.open("7", only=[])

    def test_groups_are_kept_in_memory(self, flavour: Flavour) -> None:
        with capture(), flavour(NOWHERE) as publisher:
            groups, channels = publisher.groups, publisher.groups.channels("team:3")
            assert groups.of("7") == channels.list() == set()
            assert groups.add("7", "team:3") is True
            assert groups.add(7, "team:3") is False
            assert groups.add("7", "all") is True
            for subject in ("8", "10", "é", "\U0001f600"):
                assert groups.add(subject, "team:3") is True
            assert groups.of("7") == {"team:3", "all"}
            assert groups.members("team:3") == ["10", "7", "8", "é", "\U0001f600"]
            assert groups.members("team:3", after="7", limit=2) == ["8", "é"]
            assert groups.members("team:3", after="\U0001f600") == []
            assert channels.add("news") is True
            assert channels.add("news") is False
            assert channels.add("room:1") is True
            assert channels.list() == {"news", "room:1"}
            assert publisher.channels.list("7") == set()
            assert channels.remove("news") is True
            assert channels.remove("news") is False
            assert channels.clear() == 1
            assert channels.clear() == 0
            assert groups.remove("8", "team:3") is True
            assert groups.remove("8", "team:3") is False
            assert groups.clear("7") == 2
            assert groups.clear("7") == 0
            assert groups.members("team:3") == ["10", "é", "\U0001f600"]
            with pytest.raises(InvalidGroup):
                groups.add("7", "role editor")
        with capture(), flavour(NOWHERE) as publisher:
            assert publisher.groups.members("team:3") == []

    @pytest.mark.parametrize("url", [NOWHERE, "http+sinapse://key@127.0.0.1:1"])
    def test_groups_have_the_bounds_that_they_have_in_redis(self, url: str) -> None:
        with capture(), Publisher(url) as publisher:
            for number in range(MAX_GROUPS):
                publisher.groups.add("7", str(number))
            with pytest.raises(ListFull, match="is in 100 groups already"):
                publisher.groups.add("7", "more")
            channels = publisher.groups.channels("team:3")
            for number in range(MAX_GROUP_CHANNELS):
                channels.add(str(number))
            with pytest.raises(ListFull, match="has 1000 channels already"):
                channels.add("more")
            assert len(channels.list()) == MAX_GROUP_CHANNELS

    def test_sessions_expire_in_memory(self, flavour: Flavour) -> None:
        with capture(), flavour(NOWHERE) as publisher:
            sessions = publisher.sessions
            sessions.open("7", expires_in=0.02)
            lasting, longer = (sessions.open("7", expires_in=60) for _ in range(2))
            assert sessions.renew("7", lasting.id) is True
            assert sessions.renew("7", longer.id, 0.02) is True
            eventually(lambda: len(sessions.list("7")) == 2)
            first, second = sessions.list("7")
            assert (first.id, first.expires, second.id) == (lasting.id, None, longer.id)
            assert second.expires is not None
            assert second.expires - second.opened > 50

    def test_the_whole_of_a_subject(self) -> None:
        user, room = User(), Room()
        with capture():
            user.sinapse.add_channel(room)
            token = user.sinapse.auth.generate()
            session = user.sinapse.sessions.open(device="phone")
            assert user.sinapse.auth.token == token
            assert [each.id for each in user.sinapse.sessions.list()] == [session.id]
            assert user.sinapse.has_channel("room:1")
            user.sinapse.destroy()
            assert user.sinapse.channels == set()
            assert user.sinapse.sessions.list() == []
            assert user.sinapse.auth.token is None

    def test_the_position_is_the_id_of_the_last_message(self, flavour: Flavour) -> None:
        with capture() as messages, flavour(NOWHERE) as publisher:
            assert publisher.position() == "0-0"
            first = publisher.publish("room:1", "hello")
            assert is_event_id(first.id)
            assert publisher.position() == first.id
            assert publisher.publish("room:1", "plain", retain=0).id is None
            assert publisher.publish("room:2", "hello", message_id="x").id == publisher.position()
            assert publisher.publish("room:2", "again", message_id="x").id == publisher.position()
            assert [each.id for each in messages] == [first.id, None, publisher.position()]

    def test_what_is_said_of_the_past_is_written_down(self, flavour: Flavour) -> None:
        with capture() as messages, flavour(NOWHERE) as publisher:
            publisher.publish("room:1", "a", replay="all", retain_messages=5000)
            publisher.publish("room:1", "b", replay=3)
            publisher.publish("room:1", "c", replay=3, retain_messages=3)
        assert [(each.replay, each.retain_messages) for each in messages] == [
            ("all", 5000),
            (3, 1000),
            ("all", 3),
        ]

    def test_history_is_what_is_retained(self, flavour: Flavour) -> None:
        with capture(), flavour(NOWHERE) as publisher:
            assert publisher.history("room:1") == History((), missing=False, more=False)
            for number in range(5):
                publisher.publish("room:1", {"n": number}, "count", retain_messages=4)
                publisher.publish("room:2", "other")
            first = publisher.history("room:1", limit=3)
            assert [each.message["n"] for each in first.messages] == [1, 2, 3]
            assert (first.missing, first.more) == (True, True)
            rest = publisher.history("room:1", first.messages[-1].id)
            assert publisher.history("room:1", f"{publisher.position()}-3").messages == ()
            assert [(each.data, each.event) for each in rest.messages] == [('{"n":4}', "count")]
            assert (rest.missing, rest.more) == (False, False)
            with pytest.raises(UnknownID):
                publisher.history("room:1", "ab-5")
            publisher.publish("room:3", "short", retain=1e-3)
            while publisher.history("room:3").messages:
                pass
            assert publisher.history("room:3").missing

    def test_nobody_is_online(self, flavour: Flavour) -> None:
        with capture(), flavour(NOWHERE) as publisher:
            assert publisher.online("7") is False
            assert publisher.online_in("room:1") == set()
            assert publisher.audience("room:1") == (publisher.publish("room:1", "hello"), None)

    def test_several_redis_are_one(self, flavour: Flavour) -> None:
        with capture(), flavour(f"{NOWHERE} redis://127.0.0.1:2") as publisher:
            publisher.channels.add("7", "a")
            publisher.channels.add("7", "b")
            assert publisher.channels.clear("7") == 2
            assert publisher.tokens.get("7") is None

    def test_nodes_are_as_many_as_one_says(self) -> None:
        with capture(nodes=0):
            assert Room().publish("hello") == 0
        with capture(nodes=3):
            assert Room().publish("hello") == 3

    def test_nothing_leaks_from_one_to_the_next(self) -> None:
        block = capture()
        for _ in range(2):
            with block as messages:
                assert len(messages) == 0
                assert User().sinapse.channels == set()
                Room().publish("hello", message_id="a")
                User().sinapse.add_channel("news")
                assert len(messages) == 1

    def test_after_it_messages_are_sent_again_whatever_happened(self) -> None:
        with pytest.raises(ZeroDivisionError), capture():
            raise ZeroDivisionError
        with pytest.raises(BrokerUnavailable):
            Room().publish("hello")

    def test_an_inner_one_has_its_messages(self) -> None:
        with capture() as outer:
            Room().publish("before")
            with capture() as inner:
                Room().publish("within")
            Room().publish("after")
        assert [each.data for each in outer] == ["before", "after"]
        assert [each.data for each in inner] == ["within"]

    def test_threads_share_it(self) -> None:
        with capture() as messages, ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number: Room(number).publish("hello"), range(200)))
            assert len(list(threads.map(lambda _: User().sinapse.add_channel("a"), range(9)))) == 9
        assert {each.channel for each in messages} == {f"room:{number}" for number in range(200)}

    def test_it_decorates_functions_and_coroutine_functions(self) -> None:
        @capture()
        def plain(text: str) -> int:
            Room().publish(text)
            return len(captured())

        @capture(nodes=2)
        async def asynchronous(text: str) -> int:
            await aio.default().publish("room:1", text)
            return len(captured())

        assert [plain("a"), plain("b")] == [1, 1]
        assert [asyncio.run(asynchronous("a")), asyncio.run(asynchronous("b"))] == [1, 1]
        assert plain.__name__ == "plain"

    def test_what_would_run_outside_of_it_is_refused(self) -> None:
        class PostTest:
            def test_it(self) -> None: ...

        def fixture() -> Iterator[None]:
            yield

        async def asynchronous() -> AsyncIterator[None]:
            yield

        with pytest.raises(TypeError, match=r"class PostTest: .* or let it have SinapseTestMixin"):
            capture()(PostTest)
        for generator in (fixture, asynchronous):
            with pytest.raises(TypeError, match=r"write 'with capture\(\):' in it"):
                capture()(generator)
        with pytest.raises(TypeError, match=r"@refute_publishes\(\) would end before fixture"):
            refute_publishes()(fixture)

    def test_outside_of_any_nothing_is_captured(self) -> None:
        with pytest.raises(RuntimeError, match="nothing is captured here"):
            captured()

    def test_messages_are_a_sequence_that_can_be_cleared(self) -> None:
        with capture() as messages:
            for number in range(3):
                Room(number).publish("hello")
            assert messages[0].channel == "room:0"
            assert [each.channel for each in messages[1:]] == ["room:1", "room:2"]
            assert "room:2" in repr(messages)
            messages.clear()
            assert list(messages) == []


class TestExpectations:
    @pytest.fixture
    def messages(self) -> Messages:
        with capture() as messages:
            Room(1).publish({"text": "hi", "n": 1}, event="message")
            Room(1).publish("plain")
            Room(2).publish("plain", event="note")
        return messages

    @pytest.mark.parametrize(
        ("count", "expected"),
        [
            (3, {}),
            (None, {}),
            (2, {"channel": "room:1"}),
            (2, {"channel": Room(1)}),
            (1, {"channel": Room(2), "event": "note", "message": "plain"}),
            (1, {"event": None}),
            (2, {"message": b"plain"}),
            (1, {"message": {"n": 1, "text": "hi"}}),
            (1, {"message": '{"text":"hi","n":1}'}),
            (0, {"message": '{"n":1,"text":"hi"}'}),
            (0, {"channel": "room:3"}),
            (0, {"message": None}),
        ],
    )
    def test_those_that_match_are_counted(
        self, messages: Messages, count: int | None, expected: dict[str, Any]
    ) -> None:
        found = messages.assert_published(count, **expected)
        if count is not None:
            assert len(found) == count
        with pytest.raises(AssertionError):
            messages.assert_published(4, **expected)
        if count == 0:
            messages.refute_published(**expected)
        else:
            with pytest.raises(AssertionError):
                messages.refute_published(**expected)

    def test_a_failure_shows_what_was_published(self, messages: Messages) -> None:
        def expect() -> None:
            messages.assert_published(
                1, channel=Room(1), event="note", message={"text": "hi", "n": 2}
            )

        assert text_of(expect) == (
            "expected 1 message to 'room:1' with event 'note' that is "
            '{"text":"hi","n":2}, but none was published; 3 were published in all:\n'
            '  \'room:1\', event \'message\': {"text":"hi","n":1}\n'
            "  'room:1': plain\n"
            "  'room:2', event 'note': plain"
        )

    def test_a_failure_says_it_when_there_is_nothing(self) -> None:
        assert text_of(lambda: Messages().assert_published(event=None)) == (
            "expected a message without event type, but none was published; "
            "nothing was published at all"
        )

    def test_a_refutation_shows_it_too(self, messages: Messages) -> None:
        assert text_of(lambda: messages.refute_published(channel="room:2")) == (
            "expected no message to 'room:2', but 1 was published; 3 were published in all:\n"
            '  \'room:1\', event \'message\': {"text":"hi","n":1}\n'
            "  'room:1': plain\n"
            "  'room:2', event 'note': plain"
        )
        assert text_of(messages.refute_published).startswith(
            "expected no message, but 3 were published:\n  'room:1', event"
        )

    def test_a_failure_stays_readable(self) -> None:
        with capture() as messages:
            for number in range(30):
                Room(number).publish("x" * 1000)
        text = text_of(lambda: messages.assert_published(1))
        assert len(text.splitlines()) == 22
        assert text.endswith("\n  and 10 more")
        assert "x… (1000 characters)" in text

    def test_what_nothing_could_match_is_an_error(self) -> None:
        with pytest.raises(InvalidChannel):
            Messages().assert_published(channel="sinapse:x")
        with pytest.raises(InvalidMessage):
            Messages().refute_published(message=object())


class TestBlocks:
    def test_so_many_messages_are_expected_of_a_block(self) -> None:
        with assert_publishes(2, channel="room:1"):
            Room(1).publish("a")
            Room(2).publish("b")
            Room(1).publish("c")
        with assert_publishes(), refute_publishes(event="note"):
            Room(1).publish("a")
        with refute_publishes():
            pass

    def test_a_block_fails_when_it_ends(self) -> None:
        def block() -> None:
            with assert_publishes(1, event="message"):
                Room(1).publish("a")

        assert text_of(block) == (
            "expected 1 message with event 'message', but none was published; "
            "1 was published in all:\n  'room:1': a"
        )

    def test_only_the_messages_of_the_block_count(self) -> None:
        with capture() as messages:
            Room(1).publish("before")
            with assert_publishes(1):
                Room(1).publish("within")
            with refute_publishes():
                pass
        assert [each.data for each in messages] == ["before", "within"]

    def test_an_exception_comes_first(self) -> None:
        with pytest.raises(ZeroDivisionError), assert_publishes(1):
            raise ZeroDivisionError
        with pytest.raises(RuntimeError):
            captured()

    def test_they_decorate_functions_and_coroutine_functions(self) -> None:
        @assert_publishes(1, channel="room:1")
        def plain(count: int) -> None:
            for _ in range(count):
                Room().publish("hello")

        @refute_publishes(event="note")
        async def asynchronous(event: str) -> None:
            await aio.default().publish("room:1", "hello", event)

        for _ in range(2):
            plain(1)
            with pytest.raises(AssertionError, match="2 were published"):
                plain(2)
            asyncio.run(asynchronous("message"))
            with pytest.raises(AssertionError, match="expected no message with event 'note'"):
                asyncio.run(asynchronous("note"))


class TestUnittest:
    def test_each_test_has_its_own_messages(self) -> None:
        class Case(SinapseTestMixin):
            def test_one(self) -> None:
                Room(1).publish("hello")
                assert len(self.sinapse_messages) == 1
                assert len(self.assertPublished(1, channel="room:1")) == 1

            def test_two(self) -> None:
                with self.assertPublishes(1), self.refutePublishes(event="note"):
                    Room(1).publish("hello")
                assert len(self.sinapse_messages) == 1

            def test_three(self) -> None:
                with self.refutePublishes(channel=Room(1)):
                    Room(1).publish("hello")

        class AsyncCase(SinapseTestMixin, unittest.IsolatedAsyncioTestCase):
            async def test_four(self) -> None:
                await aio.default().publish("room:1", "hello")
                self.assertPublished(1)

        result = unittest.TestResult()
        for kind in (Case, AsyncCase):
            unittest.defaultTestLoader.loadTestsFromTestCase(kind).run(result)
        assert result.testsRun == 4
        assert result.errors == []
        [(_, trace)] = result.failures
        assert "expected no message to 'room:1', but 1 was published" in trace
        with pytest.raises(RuntimeError):
            captured()
