"""The mixins: whose token, whose channels, and where an object publishes to."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from sinapse import publisher as library
from sinapse.errors import InvalidChannel, InvalidGroup, InvalidSubject
from sinapse.publisher import Group, Publishable, Publisher, Subject, aio, defaults, sqlalchemy
from sinapse.publisher.operations import identity
from tests.support import RedisServer, eventually
from tests.support.listening import Listener


@dataclass
class User(Subject):
    id: int | str | None = 7


@dataclass
class Room(Publishable):
    id: int | str | None = 1


@dataclass
class Team(Group):
    id: int | str | None = 3


@pytest.fixture
def redis_server(emptied_redis: RedisServer) -> RedisServer:
    """Return a Redis of this module's own, which may lose its data."""
    return emptied_redis


@pytest.fixture(autouse=True)
def the_default(redis_server: RedisServer) -> Iterator[Publisher]:
    """Make the session's Redis the default, for the length of a test."""
    with Publisher(redis_server.url, retain=0) as publisher:
        former = library.use(publisher)
        yield publisher
        library.use(former)


def thing_with(**attributes: object) -> Any:
    """Return an object of a class named Thing, with both mixins."""
    return type("Thing", (Subject, Publishable), attributes)()


def only_dynamic(_: object, name: str) -> str:
    """Be the ``__getattr__`` of a class whose attributes are found nowhere else."""
    if name == "id":
        return "dynamic"
    raise AttributeError(name)


class TestSubject:
    def test_the_life_of_a_token(self, listener: Listener, redis_client: redis.Redis) -> None:
        user = User()
        assert user.sinapse.auth.clear() is False
        first = user.sinapse.auth.generate()
        assert user.sinapse.auth.token == first
        assert redis_client.get("sinapse:User:7") == first.encode()
        assert redis_client.get(f"sinapse:tokens:{first}") == b"7"
        second = user.sinapse.auth.reset()
        third = user.sinapse.auth.generate(expires_in=60)
        assert user.sinapse.auth.token == third
        assert 0 < redis_client.ttl("sinapse:User:7") <= 60
        assert user.sinapse.auth.clear() is True
        assert user.sinapse.auth.clear() is False
        assert not User().sinapse.auth.token
        assert redis_client.keys() == []
        assert listener.heard() == [
            ("sinapse:channels:7:revoke", token.encode()) for token in (first, second, third)
        ]

    def test_the_life_of_sessions(self, listener: Listener, redis_client: redis.Redis) -> None:
        sessions = User().sinapse.sessions
        assert sessions.list() == []
        phone = sessions.open(device="phone", expires_in=60, only=Room())
        laptop, tablet = sessions.open(), sessions.open()
        assert redis_client.get(f"sinapse:tokens:{laptop.token}") == b"7"
        first, *_ = sessions.list()
        assert (first.id, first.device, first.only) == (phone.id, "phone", frozenset({"room:1"}))
        assert sessions.renew(phone.id) is True
        assert sessions.list()[0].expires is None
        assert sessions.end(phone.id) is True
        assert sessions.end(phone.id) is False
        assert sessions.end_all(but=tablet.id) == 1
        assert sessions.end_all() == 1
        assert redis_client.keys() == []
        assert listener.heard() == [
            ("sinapse:channels:7:revoke", each.token.encode()) for each in (phone, laptop, tablet)
        ]

    def test_the_life_of_a_list_of_channels(self, listener: Listener) -> None:
        user, room = User(), Room()
        assert user.sinapse.channels == set()
        assert user.sinapse.add_channel(room) is True
        assert user.sinapse.add_channel("news") is True
        assert user.sinapse.add_channel("news") is False
        assert user.sinapse.channels == {"room:1", "news"}
        assert user.sinapse.has_channel(room)
        assert user.sinapse.has_channel("room:1")
        assert not user.sinapse.has_channel("room:2")
        assert user.sinapse.remove_channel(room) is True
        assert user.sinapse.remove_channel("room:1") is False
        assert user.sinapse.channels == {"news"}
        assert user.sinapse.clear() == 1
        assert user.sinapse.channels == set()
        assert listener.heard() == [
            ("sinapse:channels:7:grant", b"0 room:1"),
            ("sinapse:channels:7:add", b"room:1"),
            ("sinapse:channels:7:grant", b"0 news"),
            ("sinapse:channels:7:add", b"news"),
            ("sinapse:channels:7:grant", b"0 news"),
            ("sinapse:channels:7:add", b"news"),
            ("sinapse:channels:7:withdraw", b"0 room:1"),
            ("sinapse:channels:7:remove", b"room:1"),
            ("sinapse:channels:7:withdraw", b"0 room:1"),
            ("sinapse:channels:7:remove", b"room:1"),
            ("sinapse:channels:7:withdraw", b"0 news"),
            ("sinapse:channels:7:remove", b"news"),
        ]

    def test_a_channel_is_added_for_some_time(self, redis_client: redis.Redis) -> None:
        user, room = User(), Room()
        assert user.sinapse.add_channel(room, expires_in=0.02) is True
        assert user.sinapse.add_channel("news", 60) is True
        eventually(lambda: user.sinapse.channels == {"news"})
        user.sinapse.destroy()
        Room().publish("hello")
        assert not redis_client.exists("sinapse:ends", "sinapse:channels:7")

    def test_destroy_leaves_nothing(self, listener: Listener, redis_client: redis.Redis) -> None:
        user = User()
        token = user.sinapse.auth.generate()
        sessions = [user.sinapse.sessions.open(), user.sinapse.sessions.open(only="news")]
        user.sinapse.add_channel("news")
        user.sinapse.add_group("team:3")
        listener.heard()
        user.sinapse.destroy()
        assert redis_client.keys() == []
        assert listener.heard() == [
            ("sinapse:channels:7:revoke", token.encode()),
            *(("sinapse:channels:7:revoke", each.token.encode()) for each in sessions),
            ("sinapse:channels:7:withdraw", b"0 news"),
            ("sinapse:channels:7:remove", b"news"),
            ("sinapse:channels:7:leave", b"0 team:3"),
        ]
        user.sinapse.destroy()
        assert listener.heard() == []

    def test_the_kind_is_the_name_of_the_class(self, redis_client: redis.Redis) -> None:
        class Admin(User):
            pass

        user, admin = User(), Admin()
        tokens = [user.sinapse.auth.generate(), admin.sinapse.auth.generate()]
        assert [user.sinapse.auth.token, admin.sinapse.auth.token] == tokens
        assert redis_client.exists("sinapse:Admin:7") == 1

    def test_classes_share_the_list_of_an_id_unless_they_define_another(self) -> None:
        @dataclass
        class Admin(Subject):
            id: int = 7

        @dataclass
        class Robot(Subject):
            id: int = 7

            @property
            def sinapse_id(self) -> str:
                return f"robot-{self.id}"

        User().sinapse.add_channel("news")
        assert Admin().sinapse.channels == {"news"}
        assert Robot().sinapse.channels == set()

    @pytest.mark.parametrize("mixin", [Subject, aio.Subject, sqlalchemy.Subject])
    def test_classes_that_share_lists_are_warned_of_once(
        self, mixin: type, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(identity, "_numbered", {})

        def subject(name: str, identifier: object, *bases: type, **attributes: object) -> Any:
            bases = bases or (mixin,)
            monkeypatch.setattr(sqlalchemy.mixins, "_primary_key", lambda _: str(identifier))
            return type(name, bases, {"id": identifier, **attributes})().sinapse._id

        person = type("Person", (mixin,), {})
        for _ in range(2):
            subject("Admin", 1, person)
            subject("Staff", 1, person)
            subject("Robot", 1, sinapse_id="robot-1")
            subject("Other", 1, sinapse_id="1")
            subject("Device", "7f9c")
            subject("Named", uuid.uuid4())
        assert caplog.messages == []
        for _ in range(2):
            subject("Customer", 1)
        (message,) = caplog.messages
        assert message.startswith("Customer and Person both have numbers as ids")

    def test_before_a_save_nothing_works_and_nothing_is_sent(
        self, redis_client: redis.Redis, listener: Listener
    ) -> None:
        user = User(id=None)
        operations: list[Callable[[], object]] = [
            user.sinapse.auth.generate,
            user.sinapse.auth.reset,
            user.sinapse.auth.clear,
            lambda: user.sinapse.auth.token,
            user.sinapse.sessions.open,
            user.sinapse.sessions.list,
            user.sinapse.sessions.end_all,
            lambda: user.sinapse.channels,
            lambda: user.sinapse.add_channel("news"),
            lambda: user.sinapse.remove_channel("news"),
            lambda: user.sinapse.has_channel("news"),
            user.sinapse.clear,
            lambda: user.sinapse.groups,
            lambda: user.sinapse.add_group("team:3"),
            lambda: user.sinapse.remove_group("team:3"),
            lambda: Team().sinapse_members.add(user),
            user.sinapse.destroy,
        ]
        for operation in operations:
            with pytest.raises(InvalidSubject, match="save it first"):
                operation()
        assert redis_client.keys() == []
        assert listener.heard() == []


class TestIdentity:
    @pytest.mark.parametrize(
        ("attributes", "expected"),
        [
            ({"sinapse_id": "s", "pk": "p", "id": "i", "to_param": lambda _: "t"}, "s"),
            ({"pk": "p", "id": "i", "to_param": lambda _: "t"}, "p"),
            ({"id": "i", "to_param": lambda _: "t"}, "i"),
            ({"to_param": lambda _: "t"}, "t"),
            ({"sinapse_id": property(lambda _: 5)}, "5"),
            ({"id": 0}, "0"),
            ({"id": uuid.UUID(int=1)}, "00000000-0000-0000-0000-000000000001"),
            ({"__getattr__": only_dynamic}, "dynamic"),
        ],
    )
    def test_where_the_id_comes_from(
        self, redis_client: redis.Redis, attributes: dict[str, Any], expected: str | None
    ) -> None:
        thing = thing_with(**attributes)
        thing.sinapse.auth.generate()
        assert redis_client.exists(f"sinapse:Thing:{expected}") == 1

    @pytest.mark.parametrize(
        "attributes",
        [
            {},
            {"id": None},
            {"pk": None, "id": 1},
            {"sinapse_id": None, "id": 1},
            {"sinapse_id": ""},
            {"id": b"1"},
            {"id": lambda _: 1},
            {"to_param": "1"},
            {"to_param": lambda _: None},
            {"__slots__": ("id",)},
        ],
    )
    def test_what_has_no_id(self, attributes: dict[str, Any]) -> None:
        thing = thing_with(**attributes)
        with pytest.raises(InvalidSubject):
            thing.sinapse.auth.generate()
        with pytest.raises(InvalidSubject):
            thing.publish("hello")

    def test_a_property_that_fails_makes_no_other_attribute_the_id(
        self, redis_client: redis.Redis
    ) -> None:
        @dataclass
        class Employee(Subject):
            id: int = 1
            person: Any = None

            @property
            def sinapse_id(self) -> object:
                return self.person.number

        with pytest.raises(InvalidSubject, match=r"Employee\.sinapse_id"):
            Employee().sinapse.add_channel("news")
        assert redis_client.keys() == []
        employee = Employee(person=SimpleNamespace(number=5))
        assert employee.sinapse.add_channel("news")


class TestAnyClass:
    def test_slots(self) -> None:
        class Slotted(Subject, Publishable):
            __slots__ = ("id",)

            def __init__(self) -> None:
                self.id = 3

        thing = Slotted()
        assert not hasattr(thing, "__dict__")
        assert thing.sinapse.add_channel(thing)
        assert thing.sinapse.channels == {"slotted:3"}

    def test_frozen_dataclasses(self) -> None:
        @dataclass(frozen=True, slots=True)
        class Frozen(Subject, Publishable):
            pk: int

        thing = Frozen(3)
        assert thing.sinapse.add_channel(thing)
        assert thing.sinapse.auth.generate() == thing.sinapse.auth.token
        assert thing.publish("hello") == 0

    def test_enumerations(self, listener: Listener) -> None:
        class Topic(Publishable, Enum):
            NEWS = "news"

            @property
            def sinapse_id(self) -> object:
                return self.value

        Topic.NEWS.publish("hello")
        assert listener.heard() == [("topic:news", b"\xa5hello")]

    def test_a_class_that_keeps_what_it_has(self, listener: Listener) -> None:
        class Article(Publishable):
            id = 1

            def publish(self) -> str:  # type: ignore[override]
                return "printed"

        article = Article()
        assert article.publish() == "printed"
        assert article.sinapse_publish("hello", event="msg") == 1
        assert listener.heard() == [("article:1", b"\x92\xa3msg\xa5hello")]


class TestPublishable:
    def test_publish_sends_to_the_channel_of_the_object(self, listener: Listener) -> None:
        room = Room()
        assert room.publish("hello") == 1
        assert room.publish({"a": 1}, event="msg") == 1
        assert room.sinapse_publish("hello", "msg") == 1
        assert listener.heard() == [
            ("room:1", b"\xa5hello"),
            ("room:1", b'\x92\xa3msg\xa7{"a":1}'),
            ("room:1", b"\x92\xa3msg\xa5hello"),
        ]

    @pytest.mark.parametrize(
        ("class_name", "channel"),
        [
            ("Room", "room:12"),
            ("ChatRoom", "chat_room:12"),
            ("Rooms", "room:12"),
            ("People", "person:12"),
            ("Status", "status:12"),
            ("News", "news:12"),
            ("Address", "address:12"),
            ("HTTPServer", "http_server:12"),
            ("UserCategories", "user_category:12"),
            ("room", "room:12"),
            ("Équipe", "équipe:12"),
        ],
    )
    def test_names_are_those_of_the_origin(self, class_name: str, channel: str) -> None:
        thing = type(class_name, (Publishable,), {"id": 12})()
        assert thing.sinapse_channel == channel

    def test_a_class_may_name_its_channel_itself(self, listener: Listener) -> None:
        class Site(Publishable):
            sinapse_channel = "everybody"

        Site().publish("hello")
        User().sinapse.add_channel(Site())
        assert listener.heard() == [
            ("everybody", b"\xa5hello"),
            ("sinapse:channels:7:grant", b"0 everybody"),
            ("sinapse:channels:7:add", b"everybody"),
        ]

    def test_an_object_may_stand_for_its_channel_in_the_plain_interface(
        self, listener: Listener, the_default: Publisher
    ) -> None:
        the_default.publish(Room(id=5), "hello")
        the_default.channels.add("7", Room(id=5))
        assert the_default.channels.has("7", Room(id=5))
        assert listener.heard() == [
            ("room:5", b"\xa5hello"),
            ("sinapse:channels:7:grant", b"0 room:5"),
            ("sinapse:channels:7:add", b"room:5"),
        ]

    def test_a_class_says_how_long_its_messages_are_retained(
        self, redis_client: redis.Redis
    ) -> None:
        class Alarm(Room):
            sinapse_retain = 3600

        alarm, room = Alarm(id=5), Room(id=5)
        alarm.publish("hello")
        room.publish("hello")
        assert 3000 < redis_client.ttl("sinapse:retained:alarm:5") <= 3600
        assert not redis_client.exists("sinapse:retained:room:5")
        room.sinapse_publish("hello", "msg", 60)
        assert 0 < redis_client.ttl("sinapse:retained:room:5") <= 60

    def test_a_class_says_what_new_streams_get(self, redis_client: redis.Redis) -> None:
        class Answer(Room):
            sinapse_retain = 60
            sinapse_retain_messages = 2
            sinapse_replay = "all"

        answer = Answer(id=5)
        for number in range(3):
            published = answer.publish(number)
        assert published.id
        assert redis_client.hget("sinapse:replay", "answer:5") == b"all"
        assert redis_client.xlen("sinapse:retained:answer:5") == 2
        answer.publish("a", replay=1, retain_messages=9)
        assert redis_client.hget("sinapse:replay", "answer:5") == b"1"
        assert redis_client.xlen("sinapse:retained:answer:5") == 3

    def test_a_message_id_is_that_of_one_message(self, listener: Listener) -> None:
        room = Room()
        assert room.publish("hello", message_id="a") == 1
        assert room.sinapse_publish("hello", retain=60, message_id="a") == 0
        assert len(listener.heard()) == 1

    def test_before_a_save_there_is_no_channel(self) -> None:
        room = Room(id=None)
        for operation in (
            lambda: room.sinapse_channel,
            lambda: room.publish("hello"),
            lambda: User().sinapse.add_channel(room),
        ):
            with pytest.raises(InvalidSubject, match="save it first"):
                operation()

    def test_a_class_whose_channels_would_be_reserved_cannot_publish(self) -> None:
        thing = type("Sinapse", (Publishable,), {"id": 1})()
        with pytest.raises(InvalidChannel, match="reserved"):
            thing.publish("hello")


class TestGroup:
    def test_its_members_come_and_go(self, listener: Listener, redis_client: redis.Redis) -> None:
        user, team = User(), Team()
        assert user.sinapse.groups == set()
        assert user.sinapse.add_group(team) is True
        assert user.sinapse.add_group("team:3") is False
        assert user.sinapse.groups == {"team:3"}
        members = team.sinapse_members
        assert members.add(user) is False
        assert members.add("8") is True
        assert members.add(User(9).sinapse) is True
        assert members.add(10) is True
        assert members.list() == ["10", "7", "8", "9"]
        assert members.list(after=user, limit=1) == ["8"]
        assert members.list("8") == ["9"]
        assert members.remove(User(9)) is True
        assert members.remove(9) is False
        assert members.remove("8") is True
        assert members.remove(10) is True
        assert user.sinapse.remove_group(team) is True
        assert user.sinapse.remove_group(team) is False
        assert redis_client.keys() == []
        assert listener.heard()[0] == ("sinapse:channels:7:join", b"0 0 team:3")

    def test_its_channels_are_for_all_members(
        self, listener: Listener, redis_client: redis.Redis
    ) -> None:
        channels, room = Team().sinapse_channels, Room()
        assert channels.list() == set()
        assert channels.add(room) is True
        assert channels.add("room:1") is False
        assert channels.add("news") is True
        assert channels.list() == {"room:1", "news"}
        assert channels.remove(room) is True
        assert channels.remove(room) is False
        assert channels.clear() == 1
        assert redis_client.keys() == []
        assert listener.heard()[0] == ("sinapse:channels::group-grant", b"0 0 team:3 room:1")

    @pytest.mark.parametrize(
        ("class_name", "group"),
        [("Team", "team:12"), ("AdminRoles", "admin_role:12"), ("Équipe", "équipe:12")],
    )
    def test_names_are_made_like_those_of_channels(self, class_name: str, group: str) -> None:
        thing = type(class_name, (Group,), {"id": 12})()
        assert thing.sinapse_group == group

    def test_a_class_may_name_its_group_itself(self) -> None:
        class Everybody(Group):
            sinapse_group = "all"

        User().sinapse.add_group(Everybody())
        assert Everybody().sinapse_members.list() == ["7"]

    def test_a_class_may_be_all_at_once(self) -> None:
        @dataclass(frozen=True, slots=True)
        class Crew(Subject, Publishable, Group):
            id: int = 5

        crew, other = Crew(), Crew(6)
        assert not hasattr(crew, "__dict__")
        assert (crew.sinapse_channel, crew.sinapse_group) == ("crew:5", "crew:5")
        assert crew.sinapse_channels.add(crew)
        assert crew.sinapse_members.add(other)
        assert other.sinapse.groups == {"crew:5"}
        assert crew.sinapse.groups == set()
        assert crew.publish("hello") == 0

    def test_before_a_save_there_is_none(
        self, redis_client: redis.Redis, listener: Listener
    ) -> None:
        team = Team(id=None)
        operations: list[Callable[[], object]] = [
            lambda: team.sinapse_group,
            lambda: User().sinapse.add_group(team),
            lambda: team.sinapse_members.add("7"),
            team.sinapse_members.list,
            team.sinapse_channels.list,
            lambda: team.sinapse_channels.add("news"),
        ]
        for operation in operations:
            with pytest.raises(InvalidSubject, match="save it first"):
                operation()
        assert redis_client.keys() == []
        assert listener.heard() == []

    def test_what_is_no_member_and_no_group_is_refused(self, redis_client: redis.Redis) -> None:
        with pytest.raises(InvalidSubject, match="a subject's id is a str, int or UUID"):
            Team().sinapse_members.add(Room())  # type: ignore[arg-type]
        with pytest.raises(InvalidGroup, match="has sinapse_group, not Room"):
            User().sinapse.add_group(Room())  # type: ignore[arg-type]
        with pytest.raises(InvalidGroup, match="has white space"):
            Team(id="3 4").sinapse_members.add("7")
        assert redis_client.keys() == []


class TestDefault:
    def test_it_is_made_of_the_environment_once(
        self, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library.use(None)
        monkeypatch.setenv("REDIS_URL", redis_server.url.removesuffix("/0") + "?db=0")
        publisher = library.default()
        monkeypatch.setenv("REDIS_URL", "redis://another.example")
        assert library.default() is publisher
        assert str(publisher.url) == redis_server.url
        publisher.close()

    def test_it_can_be_replaced_and_put_back(self, the_default: Publisher) -> None:
        another = Publisher("redis://another.example")
        assert library.use(another) is the_default
        assert library.default() is another
        assert library.use(the_default) is another
        assert library.default() is the_default

    def test_objects_made_before_use_the_new_one(
        self, redis_server: RedisServer, listener: Listener
    ) -> None:
        sinapse = User().sinapse
        sinapse.add_channel("news")
        with Publisher(redis_server.url.removesuffix("0") + "1") as another:
            library.use(another)
            assert sinapse.channels == set()

    def test_threads_that_come_first_at_once_get_the_same(
        self, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REDIS_URL", redis_server.url)
        for _ in range(20):
            library.use(None)
            barrier = threading.Barrier(8)
            found: list[Publisher] = []

            def come(barrier: threading.Barrier = barrier, found: list[Publisher] = found) -> None:
                barrier.wait()
                found.append(library.default())

            threads = [threading.Thread(target=come) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(found) == 8
            assert len(set(found)) == 1

    def test_a_wrong_environment_is_an_error_of_the_first_use(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library.use(None)
        monkeypatch.setenv("REDIS_URL", "localhost:6379")
        with pytest.raises(ValueError, match="scheme"):
            User().sinapse.add_channel("news")


class TestConfiguredDefault:
    """What the integrations do."""

    @pytest.fixture(autouse=True)
    def configured(self) -> Iterator[Publisher]:
        """Have a publisher of somebody's settings."""
        publisher = Publisher("redis://configured.example")
        library.use(None)
        defaults.configure(lambda: publisher)
        yield publisher
        defaults.configure(None)

    def test_it_is_the_one_of_the_settings(self, configured: Publisher) -> None:
        assert library.default() is configured

    def test_one_that_was_chosen_comes_first_and_can_be_put_back(
        self, configured: Publisher, the_default: Publisher
    ) -> None:
        former = library.use(the_default)
        assert library.default() is the_default
        assert library.use(former) is the_default
        assert library.default() is configured

    def test_what_was_made_of_the_environment_before_does_not_stay(
        self, configured: Publisher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REDIS_URL", "redis://environment.example")
        defaults.configure(None)
        made = library.default()
        assert made.url.host == "environment.example"
        defaults.configure(lambda: configured)
        assert library.default() is configured
        assert library.use(made) is made
        assert library.default() is configured
        defaults.configure(None)
        assert library.default() is made


class TestKind:
    def test_it_can_be_named(self, redis_client: redis.Redis) -> None:
        thing = thing_with(sinapse_id="7", sinapse_kind="User")
        token = thing.sinapse.auth.obtain()
        assert User().sinapse.auth.token == token
        assert thing.sinapse.auth.obtain(expires_in=9) == token

    @pytest.mark.parametrize("kind", ["", "tokens", None, 1])
    def test_one_that_is_none_is_refused(self, kind: object) -> None:
        with pytest.raises(InvalidSubject, match="kind"):
            thing_with(sinapse_id="7", sinapse_kind=kind).sinapse.auth.generate()
