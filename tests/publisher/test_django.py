"""The app for Django, in a project of its own: models, transactions, pages, commands, checks."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import logging
import multiprocessing
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis
from asgiref.sync import async_to_sync, sync_to_async

from tests.support import django_site

django_site.set_up()

from django.contrib import admin  # noqa: E402
from django.contrib.auth.hashers import make_password  # noqa: E402
from django.contrib.auth.models import AnonymousUser, Group, Permission, User  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.contrib.staticfiles.views import serve  # noqa: E402
from django.core.checks import run_checks  # noqa: E402
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured  # noqa: E402
from django.core.management import CommandError, call_command  # noqa: E402
from django.db import connection, connections, models, transaction  # noqa: E402
from django.db.models import Value  # noqa: E402
from django.db.models.functions import Concat  # noqa: E402
from django.db.models.signals import m2m_changed, pre_delete  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.template import Context, Template  # noqa: E402
from django.test import (  # noqa: E402
    AsyncClient,
    Client,
    RequestFactory,
    TestCase,
    override_settings,
)
from django.test.utils import isolate_apps  # noqa: E402
from django.utils.functional import SimpleLazyObject  # noqa: E402
from django.utils.translation import gettext_lazy  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402

from sinapse.errors import (  # noqa: E402
    BrokerUnavailable,
    InvalidChannel,
    InvalidMessage,
    InvalidSubject,
)
from sinapse.protocol.keys import session_id  # noqa: E402
from sinapse.protocol.message import unpack  # noqa: E402
from sinapse.publisher import default, inbox  # noqa: E402
from sinapse.publisher.django import (  # noqa: E402
    apublish,
    configuration,
    publish,
    publish_on_delete,
    publish_on_save,
    subject,
    token_response,
    with_position,
)
from sinapse.publisher.django.middleware import DeviceMiddleware  # noqa: E402
from sinapse.publisher.frameworks import script  # noqa: E402
from sinapse.publisher.frameworks.page import HASHED  # noqa: E402
from sinapse.testing import assert_publishes, capture  # noqa: E402
from tests.support import EVENT_TIMEOUT, RedisServer, eventually, free_port  # noqa: E402
from tests.support.daemon import Daemon, Ended, running_daemon  # noqa: E402
from tests.support.django_site.models import (  # noqa: E402
    Comment,
    Device,
    Guide,
    QuietRoom,
    Room,
    Team,
)
from tests.support.django_site.urls import TEMPLATE  # noqa: E402
from tests.support.listening import Listener, heard  # noqa: E402
from tests.support.proxy import running_proxy  # noqa: E402
from tests.support.walkthrough import program  # noqa: E402

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def _project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with django_site.running(tmp_path_factory.mktemp("django")):
        yield


@pytest.fixture(autouse=True)
def redis_url(redis_server: RedisServer) -> Iterator[str]:
    """Let the settings name the session's Redis; begin without rows."""
    with override_settings(SINAPSE={"REDIS_URL": redis_server.url}):
        yield redis_server.url
        default().close()
    for model in (Comment, Room, Device, Team, User, Group):
        for using in connections:
            model.objects.using(using).all().delete()


@pytest.fixture
def room() -> Room:
    return Room.objects.create(title="Lobby")


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", password="secret")


def settings(**changed: object) -> Any:
    """Return a context with other settings, for the Redis of before."""
    from django.conf import settings as current

    return override_settings(SINAPSE={**current.SINAPSE, **changed})


class TestNames:
    def test_they_are_those_of_django(self, room: Room, ada: User) -> None:
        device = Device.objects.create()
        assert room.sinapse_channel == f"django_site.room:{room.pk}"
        assert device.sinapse_id == f"django_site.device:{device.pk}"

    def test_subjects_of_two_models_share_no_list(self, ada: User) -> None:
        device = Device.objects.create(pk=ada.pk)
        subject(ada).add_channel("news")
        assert device.sinapse.channels == set()
        assert default().channels.list(f"auth.user:{ada.pk}") == {"news"}

    def test_a_proxy_is_the_model_that_it_stands_for(self, room: Room) -> None:
        assert QuietRoom.objects.get().sinapse_channel == room.sinapse_channel

    def test_what_is_not_saved_has_none(self) -> None:
        with pytest.raises(InvalidSubject, match="Room has no primary key yet"):
            Room().publish("hello")
        with pytest.raises(InvalidSubject, match="Device has no primary key yet"):
            Device().sinapse.auth.generate()

    def test_the_user_of_a_request_is_the_user(self, ada: User) -> None:
        lazy = SimpleLazyObject(lambda: ada)
        token = subject(lazy).auth.obtain()
        assert subject(ada).auth.token == token
        device = Device.objects.create()
        token = subject(SimpleLazyObject(lambda: device)).auth.obtain()
        assert device.sinapse.auth.token == token

    @pytest.mark.parametrize("nobody", [AnonymousUser(), None, "ada", User()])
    def test_nobody_is_no_subject(self, nobody: object) -> None:
        with pytest.raises(InvalidSubject):
            subject(nobody)

    def test_the_parts_of_a_composite_key_cannot_be_confused(self) -> None:
        from sinapse.publisher.django.names import name_of

        class Pair(Room):
            class Meta:
                proxy = True
                app_label = "django_site"

            key: tuple[str, ...] = ()
            pk = property(lambda self: self.key)

        first, second = Pair(), Pair()
        first.key, second.key = ("a,b", "c"), ("a", "b,c")
        assert name_of(first) == "django_site.room:a%2Cb,c"
        assert name_of(second) == "django_site.room:a,b%2Cc"


class TestPublishing:
    def test_without_a_transaction_it_is_at_once(self, room: Room, listener: Listener) -> None:
        assert room.publish("hello") == 1  # The listener.
        assert heard(listener) == [(room.sinapse_channel, "hello")]

    def test_in_a_transaction_it_is_after_the_commit(self, room: Room, listener: Listener) -> None:
        with transaction.atomic():
            assert room.publish("first") is None
            with transaction.atomic():
                assert publish(room, "second") is None
            assert heard(listener) == []
        channel = room.sinapse_channel
        assert heard(listener) == [(channel, "first"), (channel, "second")]

    def test_so_is_one_for_a_single_user(self, ada: User) -> None:
        channel = f"inbox@auth.user:{ada.pk}"
        with transaction.atomic():
            assert subject(ada).publish("hello") is None
            assert subject(ada).channels == set()
        assert [each.data for each in default().history(channel).messages] == ["hello"]
        assert subject(ada).channels == {channel}
        assert inbox(subject(ada)) == channel

    @pytest.mark.parametrize("wrapped", [lambda it: it, lambda it: SimpleLazyObject(lambda: it)])
    def test_without_the_mixin_too_the_database_of_the_user_counts(
        self, ada: User, listener: Listener, wrapped: Callable[[User], Any]
    ) -> None:
        class Router:
            def db_for_write(self, model: type[models.Model], **_: object) -> str:
                return "other" if model._meta.label == "auth.User" else "default"

        with override_settings(DATABASE_ROUTERS=[Router()]):
            user = subject(wrapped(ada))
            with transaction.atomic(using="other"):
                assert user.publish("later") is None
                assert user.publish("now", using="default") is not None
                assert [data for _, data in heard(listener)] == ["now"]
        assert [data for _, data in heard(listener)] == ["later"]

    def test_with_the_mixin_its_database_counts(self, listener: Listener) -> None:
        device = Device.objects.using("other").create()
        with transaction.atomic(using="other"):
            assert device.sinapse.publish("later") is None
            assert async_to_sync(device.sinapse.apublish)("now", using="default") == 1
            assert [data for _, data in heard(listener)] == ["now"]
        assert [data for _, data in heard(listener)] == ["later"]

    def test_what_is_rolled_back_is_never_heard_of(self, room: Room, listener: Listener) -> None:
        def roll_back() -> None:
            with transaction.atomic():
                room.publish("not this")
                raise ZeroDivisionError

        with transaction.atomic():
            room.publish("kept")
            with pytest.raises(ZeroDivisionError):
                roll_back()
        with pytest.raises(ZeroDivisionError):
            roll_back()
        assert heard(listener) == [(room.sinapse_channel, "kept")]

    def test_it_can_be_at_once(self, room: Room, listener: Listener) -> None:
        with transaction.atomic():
            assert room.publish("hello", on_commit=False) == 1
            assert len(heard(listener)) == 1

    def test_the_database_of_the_instance_counts(self, listener: Listener) -> None:
        room = Room.objects.using("other").create(title="elsewhere")
        with transaction.atomic(using="other"):
            assert room.publish("later") is None
            assert room.publish("now", using="default") == 1
            assert [data for _, data in heard(listener)] == ["now"]
        assert [data for _, data in heard(listener)] == ["later"]

    def test_the_database_that_it_is_written_to_counts_when_it_was_read_from_a_replica(
        self, room: Room, listener: Listener
    ) -> None:
        class Router:
            def db_for_read(self, model: object, **_: object) -> str:
                return "other"

            def db_for_write(self, model: object, **_: object) -> str:
                return "default"

        Room.objects.using("other").create(pk=room.pk, title=room.title)
        with override_settings(DATABASE_ROUTERS=[Router()]):
            read = Room.objects.get(pk=room.pk)
            assert read._state.db == "other"
            with contextlib.suppress(KeyError), transaction.atomic():
                read.publish("not this")
                raise KeyError
            with transaction.atomic():
                read.publish("but this")
                assert heard(listener) == []
        assert [data for _, data in heard(listener)] == ["but this"]

    def test_redis_that_hangs_is_waited_for_once_in_a_commit(
        self, room: Room, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        with (
            running_proxy(redis_server.port) as proxy,
            settings(REDIS_URL=proxy.url, TIMEOUT=0.3),
        ):
            proxy.down = lambda _link, _data: b""
            with transaction.atomic():
                for number in range(5):
                    with transaction.atomic():
                        room.publish(number)
            default().close()
            assert proxy.connections == 1
        assert ["given up" in record.message for record in caplog.records] == [False, *[True] * 4]

    def test_manual_transactions_are_refused_as_django_does(self, room: Room) -> None:
        transaction.set_autocommit(False)
        try:
            with pytest.raises(transaction.TransactionManagementError):
                room.publish("hello")
            assert room.publish("hello", on_commit=False) == 0
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)

    def test_what_cannot_be_published_is_told_at_once(self, room: Room) -> None:
        with transaction.atomic():
            with pytest.raises(InvalidMessage):
                room.publish(object())
            with pytest.raises(InvalidMessage):
                room.publish(float("nan"))
            with pytest.raises(ValueError, match="retain"):
                room.publish("hello", retain=-1)
            with pytest.raises(ValueError, match="message_id"):
                room.publish("hello", message_id="")
            with pytest.raises(InvalidChannel):
                publish("sinapse:x", "hello")

    def test_what_changes_before_the_commit_does_not_change_the_message(
        self, room: Room, listener: Listener
    ) -> None:
        content, channel = {"n": 1}, room.sinapse_channel
        with transaction.atomic():
            room.publish(content)
            content["n"] = 2
            room.delete()
        assert heard(listener) == [(channel, '{"n":1}')]

    def test_it_carries_what_a_json_response_does(self, room: Room, listener: Listener) -> None:
        room.publish(
            {
                "at": AT,
                "price": Decimal("1.50"),
                "id": UUID(int=7),
                "text": gettext_lazy("Saturday"),
                "umlaut": "ü",
            }
        )
        [(_, data)] = heard(listener)
        assert "ü" in data
        assert json.loads(data) == {
            "at": "2026-01-02T03:04:05Z",
            "price": "1.50",
            "id": str(UUID(int=7)),
            "text": "Saturday",
            "umlaut": "ü",
        }

    def test_the_time_of_the_class_decides(self, room: Room, listener: Listener) -> None:
        with transaction.atomic():
            room.publish("retained")
            QuietRoom.objects.get().publish("not retained")
        ids = [unpack(payload).id for _, payload in listener.heard()]
        assert ids[0] is not None
        assert ids[1] is None

    def test_what_new_streams_get_is_said_when_it_is_sent(
        self, room: Room, redis_client: redis.Redis
    ) -> None:
        def noted() -> bytes | str | None:
            return redis_client.hget("sinapse:replay", room.sinapse_channel)

        with transaction.atomic():
            room.publish("a", replay=2)
            publish(room, "b", replay="all", retain_messages=1)
            assert noted() is None
        assert noted() == b"all"
        assert redis_client.xlen(f"sinapse:retained:{room.sinapse_channel}") == 1
        published = room.publish("c", replay=0)
        assert noted() is None
        assert published is not None
        assert published.id == default().position()
        with transaction.atomic():
            for replay, retain in ((-1, None), (1, 0)):
                with pytest.raises(ValueError, match="replay is"):
                    room.publish("d", replay=replay, retain=retain)

    def test_the_database_of_an_instance_counts_for_the_function_too(
        self, listener: Listener
    ) -> None:
        room = Room.objects.using("other").create(title="elsewhere")
        with transaction.atomic(using="other"):
            assert publish(room, "later") is None
            assert publish(room.sinapse_channel, "now") == 1
        assert [data for _, data in heard(listener)] == ["now", "later"]

    def test_a_message_id_holds_for_what_is_later(self, room: Room, listener: Listener) -> None:
        for _ in range(2):
            with transaction.atomic():
                room.publish("hello", message_id="once")
        assert len(heard(listener)) == 1

    def test_a_failure_after_the_commit_is_logged_and_the_rest_is_done(
        self, room: Room, caplog: pytest.LogCaptureFixture
    ) -> None:
        done = []
        with settings(REDIS_URL=f"redis://127.0.0.1:{free_port()}"):
            with transaction.atomic():
                room.title = "saved"
                room.save()
                room.publish("hello")
                transaction.on_commit(lambda: done.append(True))
            with pytest.raises(BrokerUnavailable):
                room.publish("hello")
        assert done == [True]
        assert Room.objects.get().title == "saved"
        assert any("on_commit" in record.message for record in caplog.records)

    def test_every_form_of_it_takes_the_same(self) -> None:
        expected = inspect.signature(publish).parameters
        forms = (apublish, Room.publish, Room.apublish, Room.sinapse_publish, Room.sinapse_apublish)
        for form in forms:
            assert inspect.signature(form).parameters == expected


class TestAsync:
    def test_a_view_publishes_on_commit_under_asgi(self, listener: Listener) -> None:
        async def post() -> str:
            answer = await AsyncClient().post("/asay", "hello", content_type="text/plain")
            return answer.content.decode()

        room = async_to_sync(post)().split()
        assert room[1] == "1"
        assert heard(listener) == [(room[0], "hello")]

    def test_a_transaction_around_it_counts(self, room: Room, listener: Listener) -> None:
        def save() -> None:
            with transaction.atomic():
                async_to_sync(room.apublish)("hello")
                assert heard(listener) == []

        async def main() -> None:
            await sync_to_async(save)()

        async_to_sync(main)()
        assert heard(listener) == [(room.sinapse_channel, "hello")]


class TestCapturing:
    def test_what_is_committed_is_captured_and_nothing_else(self, room: Room) -> None:
        with capture() as messages:
            with transaction.atomic():
                room.publish("hello", event="said")
                assert list(messages) == []
            with contextlib.suppress(ZeroDivisionError), transaction.atomic():
                room.publish("not this")
                raise ZeroDivisionError
        assert [(each.channel, each.event, each.data) for each in messages] == [
            (room.sinapse_channel, "said", "hello")
        ]

    def test_callbacks_of_a_test_case_are_captured(self, room: Room) -> None:
        with assert_publishes(1, channel=room, message={"n": 1}), transaction.atomic():
            with TestCase.captureOnCommitCallbacks(execute=True):
                room.publish({"n": 1})
            transaction.set_rollback(True)  # As a TestCase ends.


class TestProcesses:
    def test_a_forked_process_has_connections_of_its_own(
        self, room: Room, listener: Listener
    ) -> None:
        """As Celery's and Gunicorn's children are forked, after something was published."""
        room.publish("parent")
        child = multiprocessing.get_context("fork").Process(target=room.publish, args=("child",))
        child.start()
        child.join(EVENT_TIMEOUT)
        assert child.exitcode == 0
        room.publish("parent")
        assert [data for _, data in heard(listener)] == ["parent", "child", "parent"]

    def test_threads_share_one_pool(self, room: Room, listener: Listener) -> None:
        with ThreadPoolExecutor(4) as threads:
            publishers = list(threads.map(lambda _: default(), range(8)))
        assert set(publishers) == {default()}


class TestSignals:
    def test_fields_that_are_named_are_published(self, room: Room, listener: Listener) -> None:
        stop = publish_on_save(
            Comment, message=["id", "room", "text", "at"], channel=lambda comment: comment.room
        )
        try:
            with transaction.atomic():
                comment = Comment.objects.create(room=room, text="hello", at=AT)
                assert heard(listener) == []
            comment.save()
            Comment.objects.update(text="not seen")
        finally:
            stop()
        comment.save()
        messages = [unpack(payload) for _, payload in listener.heard()]
        assert [message.event for message in messages] == ["comment-saved"] * 2
        assert json.loads(messages[0].data) == {
            "id": comment.pk,
            "room": room.pk,
            "text": "hello",
            "at": "2026-01-02T03:04:05Z",
        }

    def test_new_streams_get_what_was_saved(
        self, listener: Listener, redis_client: redis.Redis
    ) -> None:
        options: dict[str, Any] = {"retain": 60, "replay": "all", "retain_messages": 2}
        stops = [
            publish_on_save(Room, message=["title"], channel="saved", **options),
            publish_on_delete(Room, message=["id"], channel="deleted", **options),
        ]
        try:
            for _ in range(3):
                Room.objects.create(title="Lobby").delete()
        finally:
            for stop in stops:
                stop()
        for channel in ("saved", "deleted"):
            assert redis_client.hget("sinapse:replay", channel) == b"all"
            assert redis_client.xlen(f"sinapse:retained:{channel}") == 2
            assert 0 < redis_client.ttl(f"sinapse:retained:{channel}") <= 60

    def test_creations_and_changes_can_be_told_apart(self, listener: Listener) -> None:
        stops = [
            publish_on_save(Room, message=["title"], event="new", created=True),
            publish_on_save(Room, message=lambda room: room.title, event="other", created=False),
            publish_on_delete(Room, message=["id"]),
        ]
        try:
            room = Room.objects.create(title="Lobby")
            channel, key = room.sinapse_channel, room.pk
            room.title = "Hall"
            room.save()
            room.delete()
        finally:
            for stop in stops:
                stop()
        found = [(channel, unpack(payload)) for channel, payload in listener.heard()]
        assert [(where, each.event, each.data) for where, each in found] == [
            (channel, "new", '{"title":"Lobby"}'),
            (channel, "other", "Hall"),
            (channel, "room-deleted", f'{{"id":{key}}}'),
        ]

    def test_a_model_without_the_mixin_has_a_channel_too(
        self, room: Room, listener: Listener
    ) -> None:
        stop = publish_on_save(Comment, message=["text"])
        comment = Comment.objects.create(room=room, text="hello", at=AT)
        stop()
        assert heard(listener) == [(f"django_site.comment:{comment.pk}", '{"text":"hello"}')]

    def test_some_may_be_for_nobody_and_fixtures_are(
        self, listener: Listener, tmp_path: Any
    ) -> None:
        stop = publish_on_save(
            Room,
            message=["title"],
            channel=lambda room: None if room.title == "secret" else "rooms",
        )
        try:
            Room.objects.create(title="secret")
            Room.objects.create(title="open")
            fixture = tmp_path / "rooms.json"
            row = {"model": "django_site.room", "pk": 99, "fields": {"title": "loaded"}}
            fixture.write_text(json.dumps([row]))
            call_command("loaddata", fixture, verbosity=0)
        finally:
            stop()
        assert heard(listener) == [("rooms", '{"title":"open"}')]

    def test_the_database_of_the_save_counts(self, listener: Listener) -> None:
        stop = publish_on_save(Room, message=["title"], channel="rooms")
        try:
            with transaction.atomic(using="other"):
                Room.objects.using("other").create(title="later")
                Room.objects.create(title="now")
                assert heard(listener) == [("rooms", '{"title":"now"}')]
        finally:
            stop()
        assert heard(listener) == [("rooms", '{"title":"later"}')]

    def test_redis_that_is_away_keeps_nothing_from_being_saved(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        stop = publish_on_save(Room, message=["title"])
        try:
            with settings(REDIS_URL=f"redis://127.0.0.1:{free_port()}"):
                Room.objects.create(title="Lobby")
        finally:
            stop()
        assert Room.objects.count() == 1
        assert any(record.levelno == logging.ERROR for record in caplog.records)

    def test_what_is_saved_through_a_proxy_is_of_its_model(self, listener: Listener) -> None:
        stops = [
            publish_on_save(Room, message=["title"], channel="rooms"),
            publish_on_delete(Room, message=["title"], channel="rooms"),
        ]
        try:
            QuietRoom.objects.create(title="quiet").delete()
        finally:
            for stop in stops:
                stop()
        QuietRoom.objects.create(title="not published")
        assert heard(listener) == [("rooms", '{"title":"quiet"}')] * 2

    def test_what_is_saved_through_a_later_proxy_is_of_its_model(self, listener: Listener) -> None:
        stop = publish_on_save(Room, message=["title"], channel="rooms")

        class LaterRoom(Room):
            class Meta:
                proxy = True
                app_label = "nowhere"

        try:
            LaterRoom.objects.create(title="later")
        finally:
            stop()
        LaterRoom.objects.create(title="not published")

        class LastRoom(LaterRoom):
            class Meta:
                proxy = True
                app_label = "nowhere"

        LastRoom.objects.create(title="not published")
        assert heard(listener) == [("rooms", '{"title":"later"}')]

    def test_a_model_may_be_of_an_application_that_is_not_installed(
        self, listener: Listener
    ) -> None:
        class Note(models.Model):
            text: models.CharField[str, str] = models.CharField(max_length=10)

            class Meta:
                app_label = "nowhere"

        with connection.schema_editor() as editor:
            editor.create_model(Note)
        stop = publish_on_save(Note, message=["text"], channel="notes")
        try:
            Note.objects.create(text="seen")
        finally:
            stop()
            with connection.schema_editor() as editor:
                editor.delete_model(Note)
        assert heard(listener) == [("notes", '{"text":"seen"}')]

    def test_of_an_expression_it_is_the_value(self, room: Room, listener: Listener) -> None:
        stops = [
            publish_on_save(Room, message=["title", "id"], channel="rooms"),
            publish_on_delete(Room, message=["title", "id"], channel="rooms"),
        ]
        try:
            room.title = Concat("title", Value("!"))
            room.save()
            gone = room.pk
            room.title = Value("unknown")
            room.delete()
        finally:
            for stop in stops:
                stop()
        texts = [json.loads(text) for _, text in heard(listener)]
        assert texts[0] == {"title": "Lobby!", "id": gone}
        assert "title" not in texts[1]

    def test_a_field_that_is_none_is_told_at_once(self) -> None:
        with pytest.raises(FieldDoesNotExist, match="titel"):
            publish_on_save(Room, message=["titel"])
        for model, name in ((User, "groups"), (Room, "comment")):
            with pytest.raises(ValueError, match="has many values"):
                publish_on_save(model, message=[name])


def connection_in(page: str) -> Any:
    [text] = re.findall(
        r'<script id="sinapse-connection" type="application/json">(.*?)</script>', page
    )
    return json.loads(text)


class TestPage:
    def test_the_tag_gives_url_and_token(self, daemon: Daemon, ada: User) -> None:
        subject(ada).add_channel("news")
        client = Client()
        client.force_login(ada)
        with settings(URL=f"http://127.0.0.1:{daemon.port}"):
            connection = connection_in(client.get("/page").content.decode())
            again = connection_in(client.get("/page").content.decode())
        assert connection["url"] == f"http://127.0.0.1:{daemon.port}/"
        assert connection["token"] == again["token"]
        with daemon.stream(connection["token"]).opened() as stream:
            assert client.post("/say", "hello", content_type="text/plain").status_code == 200
            assert stream.message().data == "hello"

    def test_a_visitor_has_no_token(self) -> None:
        with settings(URL="/streams/"):
            connection = connection_in(Client().get("/page").content.decode())
        assert connection == {
            "url": "/streams/",
            "token": None,
            "expires_in": None,
            "position": None,
        }

    def test_a_template_has_the_url_of_the_stream(self, ada: User) -> None:
        template = Template("{% load sinapse %}{% sinapse_stream_url as url %}<{{ url }}>")
        assert template.render(Context({"user": None})) == "<>"
        token = json.loads(token_response(ada).content)["token"]
        page = template.render(Context({"user": ada}))
        assert page == f"<http://localhost:9000/?access_token={token}>"

    def test_a_template_has_the_url_of_the_client_which_is_a_static_file(self) -> None:
        with override_settings(STATIC_URL="/static/"):
            page = Template("{% load sinapse %}{% sinapse_client %}").render(Context())
            path = page.removeprefix("/static/")
            answer = serve(RequestFactory().get(page), path, insecure=True)
        assert (page, answer.status_code) == ("/static/sinapse/sinapse.js", 200)
        assert "javascript" in answer.headers["Content-Type"]
        with contextlib.closing(answer):
            assert b"".join(answer) == (script.FOLDER / script.NAME).read_bytes()

    @pytest.mark.parametrize("method", ["get", "post"])
    def test_the_view_gives_the_same(self, ada: User, method: str) -> None:
        client = Client()
        client.force_login(ada)
        with settings(TOKEN_LIFETIME=60):
            answer = getattr(client, method)("/push/token/")
        assert answer.status_code == 200
        assert answer.json() == {
            "url": "http://localhost:9000/",
            "token": connection_in(client.get("/page").content.decode())["token"],
            "expires_in": 60,
            "position": default().position(),
        }
        assert "no-store" in answer["Cache-Control"]
        assert "Cookie" in answer["Vary"]

    def test_where_tokens_are_hashed_it_says_that_nobody_knows_them(
        self, ada: User, hashed: None
    ) -> None:
        """Where the page is not that of a user who has logged in, and so has no session."""
        for each in (ada, "visitor"):
            token_response(each)
            answer = token_response(each)
            assert (answer.status_code, json.loads(answer.content)) == (409, {"error": HASHED})
        page = TEMPLATE.render(Context({"user": ada}))
        assert connection_in(page)["token"] is None

    def test_a_post_needs_the_forms_token_as_everywhere(self, ada: User) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(ada)
        assert client.post("/push/token/").status_code == 403
        assert client.get("/push/token/").status_code == 200

    def test_nobody_gets_nothing(self) -> None:
        answer = Client().get("/push/token/")
        assert answer.status_code == 401
        assert "no-store" in answer["Cache-Control"]
        assert Client().put("/push/token/").status_code == 405

    def test_while_redis_is_away_the_view_says_so(self, ada: User) -> None:
        client = Client()
        client.force_login(ada)
        with settings(REDIS_URL=f"redis://127.0.0.1:{free_port()}"):
            answer = client.get("/push/token/")
        assert answer.status_code == 503
        assert answer["Retry-After"] == "5"

    def test_while_redis_is_away_the_page_is_shown_without_push(self, ada: User) -> None:
        client = Client()
        client.force_login(ada)
        with settings(REDIS_URL=f"redis://127.0.0.1:{free_port()}", URL="/streams/"):
            answer = client.get("/page")
        assert answer.status_code == 200
        without = {"url": "/streams/", "token": None, "expires_in": None, "position": None}
        assert connection_in(answer.content.decode()) == without

    def test_a_view_of_the_application_can_answer_for_any_subject(self, ada: User) -> None:
        """For a subject that is no user of Django, such as all visitors of a page."""
        answers = [token_response(each) for each in (ada, "visitor", "visitor", 7)]
        assert [answer.status_code for answer in answers] == [200] * 4
        assert all("no-store" in answer["Cache-Control"] for answer in answers)
        tokens = [json.loads(answer.content)["token"] for answer in answers]
        own = subject(ada).auth.token
        assert tokens == [own, default().tokens.get("visitor"), tokens[1], default().tokens.get(7)]
        assert token_response(None).status_code == 401
        assert token_response(AnonymousUser()).status_code == 401
        with pytest.raises(InvalidSubject):
            token_response(object())

    def test_the_view_works_under_asgi(self, ada: User) -> None:
        async def get() -> Any:
            client = AsyncClient()
            await client.aforce_login(ada)
            return [(await client.get("/push/token/")).json() for _ in range(2)]

        first, second = async_to_sync(get)()
        assert first["token"] == second["token"]
        [session] = subject(ada).sessions.list()
        assert id_of(first["token"]) == session.id

    def test_a_page_about_somebody_else_has_the_token_of_who_reads_it(self, ada: User) -> None:
        User.objects.create_user("bob")
        client = Client()
        client.force_login(ada)
        client.get("/about/bob")
        assert len(subject(ada).sessions.list()) == 1
        assert connection_in(Client().get("/about/bob").content.decode())["token"] is None


class TestPosition:
    @pytest.mark.parametrize("path", ["decorated", "awaited", "class", "awaited-class", "twice"])
    @pytest.mark.parametrize("under", ["wsgi", "asgi"])
    def test_it_is_that_of_before_the_view(self, path: str, under: str) -> None:
        before = default().position()
        get: Any = Client().get if under == "wsgi" else async_to_sync(AsyncClient().get)
        answer = get(f"/positioned/{path}")
        assert answer.status_code == 200
        assert connection_in(answer.content.decode())["position"] == before
        assert default().position() != before

    def test_without_the_decorator_there_is_none(self) -> None:
        assert connection_in(Client().get("/page").content.decode())["position"] is None

    def test_a_page_that_needs_only_the_user_has_it_too(self) -> None:
        """Without the context processor for the request."""
        page = connection_in(Client().get("/positioned/user-only").content.decode())
        assert page["position"] == default().position()

    def test_while_redis_is_away_it_is_one_that_is_answered_with_reset(
        self, daemon: Daemon, caplog: pytest.LogCaptureFixture
    ) -> None:
        with settings(REDIS_URL=f"redis://127.0.0.1:{free_port()}"):
            answer = Client().get("/positioned/shown")
        assert answer.status_code == 200
        assert "a page has no position: Redis at " in caplog.text
        page = connection_in(answer.content.decode())
        default().channels.add("visitor", "news")
        token = default().tokens.obtain("visitor")
        with daemon.stream(token, after=page["position"]).opened() as stream:
            assert stream.next().event == "reset"
            default().publish("news", "live")
            assert stream.next().data == "live"

    def test_a_view_of_the_application_can_tell_it(self) -> None:
        assert json.loads(token_response("visitor").content)["position"] is None
        assert json.loads(token_response("visitor", "ab-7").content)["position"] == "ab-7"

    def test_the_decorator_keeps_what_others_have_set(self) -> None:
        @with_position
        @csrf_exempt
        def view(_: HttpRequest) -> HttpResponse:
            """Say nothing."""
            return HttpResponse()

        assert (view.__name__, view.__doc__) == ("view", "Say nothing.")
        assert view.csrf_exempt  # type: ignore[attr-defined]


def logged_in(name: str, agent: str = "") -> Client:
    """Return the browser of somebody who has filled in the form."""
    client = Client(headers={"User-Agent": agent})
    log_in(client, name)
    return client


def log_in(client: Client, name: str) -> None:
    answer = client.post("/login", {"username": name, "password": "secret"})
    assert (answer.status_code, answer.get("Location")) == (302, "/page")


def token_of(client: Client) -> str:
    """Return the token of the page that a browser loads."""
    token = connection_in(client.get("/page").content.decode())["token"]
    assert isinstance(token, str)
    return token


def id_of(token: str) -> str | None:
    return session_id(token.encode())


def sessions_of(user: User) -> list[str | None]:
    return [each.id for each in subject(user).sessions.list()]


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have publishers hash tokens."""
    monkeypatch.setenv("SINAPSE_HASH_TOKENS", "1")
    configuration.forget()
    yield
    configuration.forget()


@pytest.fixture
def hashing(hashed: None, redis_server: RedisServer, tmp_path: Path) -> Iterator[Daemon]:
    with running_daemon(tmp_path, redis_server.url, "--hash-tokens") as daemon:
        yield daemon


class TestDevices:
    """Each log-in of Django has a session of ours."""

    @pytest.fixture(autouse=True)
    def listed(self, ada: User) -> None:
        subject(ada).add_channel("news")

    def test_of_two_the_one_that_logs_out_ends_alone(self, daemon: Daemon, ada: User) -> None:
        phone, laptop = logged_in("ada", "Phone"), logged_in("ada", "Laptop")
        with (
            daemon.stream(token_of(phone)).opened() as first,
            daemon.stream(token_of(laptop)).opened() as rest,
        ):
            assert [each.device for each in subject(ada).sessions.list()] == ["Phone", "Laptop"]
            assert phone.post("/logout").status_code == 302
            first.wait_for_end()
            publish("news", "hello")
            assert rest.message().data == "hello"
        assert [each.device for each in subject(ada).sessions.list()] == ["Laptop"]

    def test_a_log_out_of_asynchronous_code_ends_it_too(self, ada: User) -> None:
        client = logged_in("ada")
        token_of(client)
        async_client = AsyncClient()
        async_client.cookies = client.cookies
        async_to_sync(async_client.alogout)()
        assert sessions_of(ada) == []

    def test_all_pages_share_it_and_it_lives_on_with_them(self, ada: User) -> None:
        client = logged_in("ada")
        with settings(TOKEN_LIFETIME=60):
            token = token_of(client)
        [before] = subject(ada).sessions.list()
        assert client.get("/push/token/").json()["token"] == token_of(client) == token
        [after] = subject(ada).sessions.list()
        assert None not in (before.expires, after.expires)
        assert (after.expires or 0) > (before.expires or 0) + 3600

    def test_one_that_has_ended_gives_way_to_another(self, daemon: Daemon, ada: User) -> None:
        client = logged_in("ada")
        token = token_of(client)
        subject(ada).sessions.end_all()
        another = token_of(client)
        assert another != token
        assert sessions_of(ada) == [id_of(another)]
        with daemon.stream(another).opened():
            assert token_of(client) == another

    def test_one_that_has_expired_does_too(self, daemon: Daemon, ada: User) -> None:
        client = logged_in("ada")
        with settings(TOKEN_LIFETIME=1), daemon.stream(token_of(client)).opened() as stream:
            stream.wait_for_end()
        with daemon.stream(token_of(client)).opened():
            assert len(sessions_of(ada)) == 1

    def test_what_is_kept_changes_only_when_it_is_opened(self, ada: User) -> None:
        """Django saves a session as a whole, over what others have saved in the meantime."""
        client = logged_in("ada")
        token_of(client)
        assert "sessionid" not in client.get("/page").cookies

    def test_somebody_else_who_logs_in_ends_it(self, daemon: Daemon, ada: User) -> None:
        bob = User.objects.create_user("bob", password="secret")
        client = logged_in("ada")
        with daemon.stream(token_of(client)).opened() as stream:
            log_in(client, "bob")
            stream.wait_for_end()
        assert sessions_of(ada) == []
        of_bob = token_of(client)
        assert sessions_of(bob) == [id_of(of_bob)]

    def test_a_user_without_a_log_in_has_none(self, ada: User) -> None:
        """As one whom a key names that each request has: it would be a session for each."""
        request = RequestFactory().get("/")
        request.session = SessionStore()
        request.user = ada
        for _ in range(2):
            answer = json.loads(token_response(ada, request=request).content)
            assert answer["token"] == subject(ada).auth.token
        request.session["_auth_user_id"] = str(ada.pk + 1)
        token_response(ada, request=request)
        assert sessions_of(ada) == []

    def test_another_subject_than_the_user_has_none(self, ada: User) -> None:
        device = Device.objects.create(pk=ada.pk)
        client = logged_in("ada")
        request = RequestFactory().get("/")
        request.session = client.session
        request.user = ada
        token = json.loads(token_response(device, request=request).content)["token"]
        assert device.sinapse.auth.token == token
        token = json.loads(token_response(ada, None, request).content)["token"]
        assert sessions_of(ada) == [id_of(token)]

    def test_it_needs_no_sessions_of_django(self, ada: User) -> None:
        request = RequestFactory().get("/")
        request.user = ada
        token = json.loads(token_response(ada, request=request).content)["token"]
        assert subject(ada).auth.token == token

    def test_with_hashed_tokens_pages_have_push(self, hashing: Daemon, ada: User) -> None:
        client = logged_in("ada")
        with hashing.stream(token_of(client)).opened() as stream:
            assert client.get("/push/token/").json()["token"] == token_of(client)
            publish("news", "hello")
            assert stream.message().data == "hello"
            client.post("/logout")
            stream.wait_for_end()

    def test_redis_that_is_away_keeps_nobody_logged_in(
        self, ada: User, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = logged_in("ada")
        token_of(client)
        with settings(REDIS_URL=f"redis://127.0.0.1:{free_port()}"):
            assert client.post("/logout").status_code == 302
        assert client.get("/push/token/").status_code == 401
        told = [record.getMessage() for record in caplog.records if "revoked" in record.message]
        assert [text.partition(": ")[0] for text in told] == [
            "The session of a user who logged out is not revoked"
        ]

    def test_the_middleware_says_where_it_belongs(self) -> None:
        with pytest.raises(ImproperlyConfigured, match="after SessionMiddleware"):
            DeviceMiddleware(lambda _: HttpResponse())(RequestFactory().get("/"))

    def test_the_middleware_leaves_answers_to_caches(self) -> None:
        assert "Vary" not in Client().get("/plain").headers


class TestPasswords:
    """A new password ends the sessions of ours, as it ends those of Django."""

    NEW = "another secret"

    @pytest.fixture(autouse=True)
    def listed(self, ada: User) -> None:
        subject(ada).add_channel("news")

    def change(self, client: Client) -> None:
        new = {"new_password1": self.NEW, "new_password2": self.NEW}
        answer = client.post("/password", {"old_password": "secret", **new})
        assert (answer.status_code, answer.get("Location")) == (302, "/page")

    def test_all_end_but_the_one_on_which_it_is_changed(self, daemon: Daemon, ada: User) -> None:
        here, there = logged_in("ada", "Here"), logged_in("ada", "There")
        with (
            daemon.stream(token_of(here)).opened() as rest,
            daemon.stream(token_of(there)).opened() as ended,
        ):
            self.change(here)
            ended.wait_for_end()
            publish("news", "hello")
            assert rest.message().data == "hello"
        assert sessions_of(ada) == [id_of(token_of(here))]
        assert there.get("/push/token/").status_code == 401

    def test_without_the_middleware_its_next_page_has_a_new_one(self, ada: User) -> None:
        from django.conf import settings as current

        ours = "sinapse.publisher.django.middleware.DeviceMiddleware"
        without = [name for name in current.MIDDLEWARE if name != ours]
        with override_settings(MIDDLEWARE=without):
            client = logged_in("ada")
            token = token_of(client)
            self.change(client)
            assert sessions_of(ada) == []
            assert token_of(client) != token

    def test_all_end_if_somebody_else_changes_it(self, ada: User) -> None:
        User.objects.create_superuser("boss", password="secret")
        boss = logged_in("boss")
        of_boss = token_of(boss)
        token_of(logged_in("ada"))
        form = {"password1": self.NEW, "password2": self.NEW, "usable_password": "true"}
        assert boss.post(f"/admin/auth/user/{ada.pk}/password/", form).status_code == 302
        assert sessions_of(ada) == []
        assert token_of(boss) == of_boss

    def test_however_it_is_set(self, ada: User) -> None:
        client = logged_in("ada")
        for change in (
            lambda: ada.set_password(self.NEW),
            ada.set_unusable_password,
            lambda: setattr(ada, "password", make_password("secret")),
        ):
            client.force_login(ada)
            token_of(client)
            change()
            async_to_sync(ada.asave)()
            assert sessions_of(ada) == []

    def test_on_an_asynchronous_server_too(self, ada: User) -> None:
        here = logged_in("ada")
        token = token_of(here)
        token_of(logged_in("ada"))
        client = AsyncClient()
        client.cookies = here.cookies
        new = {"new_password1": self.NEW, "new_password2": self.NEW}
        answer = async_to_sync(client.post)("/password", {"old_password": "secret", **new})
        assert answer.status_code == 302
        assert sessions_of(ada) == [id_of(token)]

    def test_of_a_model_that_extends_users_they_are_those_of_the_user(self) -> None:
        guide = Guide.objects.create_user("eve", password="secret")
        token_of(logged_in("eve"))
        user = User.objects.get(username="eve")
        assert len(sessions_of(user)) == 1
        guide.set_password(self.NEW)
        guide.save()
        assert sessions_of(user) == []

    def test_once_it_is_committed(self, ada: User) -> None:
        token_of(logged_in("ada"))
        ada.set_password(self.NEW)
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            ada.save()
            raise ZeroDivisionError
        assert len(sessions_of(ada)) == 1
        with transaction.atomic():
            ada.save(update_fields=["password"])
            assert len(sessions_of(ada)) == 1
        assert sessions_of(ada) == []

    def test_what_else_is_saved_ends_none(self, ada: User) -> None:
        token_of(logged_in("ada"))
        ada.first_name = "Ada"
        ada.save()
        User.objects.only("first_name").get().save()
        ada.set_password(self.NEW)
        ada.save(update_fields=["first_name"])
        assert len(sessions_of(ada)) == 1

    def test_redis_that_is_away_keeps_no_password_from_being_changed(
        self, ada: User, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = logged_in("ada")
        token_of(client)
        with settings(REDIS_URL=f"redis://127.0.0.1:{free_port()}"):
            self.change(client)
        ada.refresh_from_db()
        assert ada.check_password(self.NEW)
        assert "The session of a user with a new password is not revoked: Redis" in caplog.text


class TestGroups:
    def test_a_model_may_be_a_group_and_all_else(self, ada: User, room: Room) -> None:
        team = Team.objects.create(name="Red")
        name = f"django_site.team:{team.pk}"
        assert team.sinapse_group == team.sinapse_channel == team.sinapse_id == name
        assert subject(ada).add_group(team) is True
        assert team.sinapse_members.add(subject(ada)) is False
        assert team.sinapse_members.add(team) is True
        assert subject(ada).groups == {name}
        assert team.sinapse_members.list() == sorted([f"auth.user:{ada.pk}", name])
        assert team.sinapse_channels.add(room) is True
        assert team.sinapse_channels.list() == {room.sinapse_channel}
        assert subject(ada).remove_group(team) is True

    def test_before_a_save_it_is_none(self, ada: User) -> None:
        with pytest.raises(InvalidSubject, match="Team has no primary key yet: save it first"):
            subject(ada).add_group(Team())

    def test_who_is_deleted_leaves_all_of_them(self, ada: User) -> None:
        who = subject(ada)
        who.add_group("role:1")
        with settings(REVOKE_ON_DELETE=True):
            ada.delete()
            assert who.groups == set()


class TestRoles:
    """What the page says about them."""

    @pytest.fixture(autouse=True)
    def names(self) -> Iterator[dict[str, Any]]:
        names: dict[str, Any] = {}
        exec(program("howto-django.md", "Roles"), names)  # That is the test.
        yield names
        m2m_changed.disconnect(names["role_has_changed"], sender=User.groups.through)
        pre_delete.disconnect(names["role_will_go"], sender=Group)

    @pytest.fixture
    def editors(self) -> Any:  # The hints of Django do not know its user_set.
        return Group.objects.create(name="Editors")

    def roles(self, user: User) -> set[str]:
        return subject(user).groups

    def test_its_channels_are_said_once(self) -> None:
        assert default().groups.channels("role:1").list() == {"news"}

    def test_who_gets_or_loses_one_is_in_the_group_or_not(
        self, ada: User, editors: Any, listener: Listener
    ) -> None:
        role = f"role:{editors.pk}"
        ada.groups.add(editors)
        assert self.roles(ada) == {role}
        ada.groups.remove(editors)
        assert self.roles(ada) == set()
        told = [channel for channel, _ in listener.heard()]
        names = f"sinapse:channels:auth.user:{ada.pk}"
        assert told == [f"{names}:join", f"{names}:leave"]
        editors.user_set.add(ada)
        assert self.roles(ada) == {role}
        editors.user_set.remove(ada)
        assert self.roles(ada) == set()

    def test_who_gets_one_hears_its_channels_at_once_and_who_loses_it_no_more(
        self, daemon: Daemon, ada: User, editors: Any
    ) -> None:
        subject(ada).add_channel("news")
        default().groups.channels(f"role:{editors.pk}").add("drafts")
        with daemon.stream(subject(ada).auth.generate()).opened() as stream:
            ada.groups.add(editors)
            publish("drafts", "heard")
            assert stream.message().data == "heard"
            ada.groups.remove(editors)
            publish("drafts", "unheard")
            publish("news", "end")
            assert stream.message().data == "end"

    def test_all_of_a_user_and_all_of_a_role(self, ada: User, editors: Any) -> None:
        bob = User.objects.create_user("bob", password="secret")
        others = Group.objects.create(name="Others")
        for user in (ada, bob):
            user.groups.set([editors, others])
            assert self.roles(user) == {f"role:{editors.pk}", f"role:{others.pk}"}
        ada.groups.clear()
        assert self.roles(ada) == set()
        editors.user_set.clear()
        assert self.roles(bob) == {f"role:{others.pk}"}

    def test_nothing_changes_before_the_commit_nor_after_a_rollback(
        self, ada: User, editors: Any
    ) -> None:
        with transaction.atomic():
            ada.groups.add(editors)
            assert self.roles(ada) == set()
        assert self.roles(ada) == {f"role:{editors.pk}"}
        with transaction.atomic():
            ada.groups.clear()
            transaction.set_rollback(True)
        assert self.roles(ada) == {f"role:{editors.pk}"}

    def test_a_role_that_is_deleted_is_nobodys(self, ada: User, editors: Any) -> None:
        ada.groups.add(editors)
        role = f"role:{editors.pk}"
        default().groups.channels(role).add("drafts")
        Group.objects.all().delete()
        assert self.roles(ada) == set()
        assert default().groups.members(role) == []
        assert default().groups.channels(role).list() == set()

    def test_if_redis_is_away_it_is_saved_and_can_be_repeated(
        self,
        ada: User,
        editors: Any,
        names: dict[str, Any],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with settings(REDIS_URL=f"redis://127.0.0.1:{free_port()}"):
            ada.groups.add(editors)
        assert "Redis at redis" in caplog.text
        assert list(ada.groups.all()) == [editors]
        assert self.roles(ada) == set()
        names["follow"](ada.pk, editors.pk)
        assert self.roles(ada) == {f"role:{editors.pk}"}


class TestRevocation:
    @pytest.mark.parametrize("asked", [True, False])
    def test_at_a_log_out(self, daemon: Daemon, ada: User, asked: bool) -> None:
        subject(ada).add_channel("news")
        client = Client()
        client.force_login(ada)
        with (
            settings(REVOKE_ON_LOGOUT=asked),
            daemon.stream(subject(ada).auth.obtain()).opened() as stream,
        ):
            client.logout()
            publish("news", "hello")
            if asked:
                with pytest.raises(Ended):
                    stream.next()
            else:
                assert stream.message().data == "hello"
        assert subject(ada).channels == {"news"}

    def test_at_a_log_out_of_all_devices_if_that_is_asked(self, ada: User) -> None:
        phone, laptop = logged_in("ada"), logged_in("ada")
        assert token_of(phone) != token_of(laptop)
        with settings(REVOKE_ON_LOGOUT=True):
            phone.post("/logout")
        assert sessions_of(ada) == []

    def test_at_a_deletion_once_it_is_committed(self, ada: User) -> None:
        device = Device.objects.create()
        user, other = subject(ada), subject(device)
        for each in (user, other):
            each.auth.generate()
            each.sessions.open()
            each.add_channel("news")
        with settings(REVOKE_ON_DELETE=True):
            with transaction.atomic():
                ada.delete()
                Device.objects.all().delete()
                assert user.auth.token is not None
            assert Room.objects.create().delete()
        assert [user.auth.token, other.auth.token] == [None, None]
        assert user.sessions.list() == other.sessions.list() == []
        assert user.channels == other.channels == set()

    def test_not_at_a_deletion_unless_asked(self, ada: User) -> None:
        user = subject(ada)
        token = user.auth.generate()
        ada.delete()
        assert user.auth.token == token

    def test_redis_that_is_away_keeps_nobody_logged_in(
        self, ada: User, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = Client()
        client.force_login(ada)
        away = f"redis://127.0.0.1:{free_port()}"
        with settings(REDIS_URL=away, REVOKE_ON_LOGOUT=True, REVOKE_ON_DELETE=True):
            client.logout()
            ada.delete()
        assert client.get("/push/token/").status_code == 401
        assert [record.getMessage().partition(": ")[0] for record in caplog.records][:2] == [
            "The token of a user who logged out is not revoked",
            "The token of a subject that was deleted is not revoked",
        ]

    def test_an_action_of_the_administration(self, ada: User) -> None:
        boss = User.objects.create_superuser("boss", password="secret")
        token, other = subject(ada).auth.generate(), subject(boss).auth.generate()
        client = Client()
        client.force_login(boss)
        subject(ada).sessions.open()
        form = {"action": "revoke_tokens", "_selected_action": [ada.pk]}
        answer = client.post("/admin/auth/user/", form, follow=True)
        assert "2 tokens were revoked." in answer.content.decode()
        assert subject(ada).auth.token != token
        assert sessions_of(ada) == []
        assert subject(boss).auth.token == other


class TestAdministration:
    """The form of a user shows the sessions, and ends those that are ticked."""

    @pytest.fixture
    def boss(self) -> Client:
        User.objects.create_superuser("boss", password="secret")
        return logged_in("boss")

    def form(self, client: Client, user: User) -> str:
        return client.get(f"/admin/auth/user/{user.pk}/change/").content.decode()

    def fields(self, user: User, **more: object) -> dict[str, object]:
        names = {"username": user.username, "date_joined_0": "2026-01-02", "date_joined_1": "03:04"}
        return {**names, "is_active": "on", **more}

    def test_it_shows_them_without_their_tokens(self, boss: Client, ada: User) -> None:
        assert "None." in self.form(boss, ada)
        token = token_of(logged_in("ada", "A <Phone>"))
        form = self.form(boss, ada)
        assert "<td>A &lt;Phone&gt;<td>" in form
        [session] = subject(ada).sessions.list()
        assert f'name="_sinapse_end" value="{session.id}"' in form
        assert token not in form
        assert token.removeprefix("s.") not in form

    def test_one_that_is_ticked_ends(self, daemon: Daemon, boss: Client, ada: User) -> None:
        subject(ada).add_channel("news")
        first, other = (token_of(logged_in("ada")) for _ in range(2))
        with daemon.stream(first).opened() as stream:
            ticked = self.fields(ada, _sinapse_end=[id_of(first), "of nobody"])
            answer = boss.post(f"/admin/auth/user/{ada.pk}/change/", ticked, follow=True)
            assert "1 push session was ended." in answer.content.decode()
            stream.wait_for_end()
        assert sessions_of(ada) == [id_of(other)]

    def test_what_the_page_says_about_log_ins_is_so(self) -> None:
        from django.conf import settings as current

        names: dict[str, Any] = {"MIDDLEWARE": []}
        before = type(admin.site.get_model_admin(User))
        try:
            exec(program("howto-django.md", "Log in and log out"), names)  # That is the test.
            shown = admin.site.get_model_admin(User)
            request = RequestFactory().get("/")
            request.user = User(is_superuser=True)
            assert "push_sessions" in shown.get_readonly_fields(request, User(pk=1))
            assert shown.check() == []
        finally:
            admin.site.unregister(User)
            admin.site.register(User, before)
        assert set(names["MIDDLEWARE"]) < set(current.MIDDLEWARE)

    def test_who_may_only_view_users_ends_none(self, ada: User) -> None:
        bob = User.objects.create_user("bob", password="secret", is_staff=True)
        bob.user_permissions.add(Permission.objects.get(codename="view_user"))
        client = logged_in("bob")
        token_of(logged_in("ada", "Phone"))
        form = self.form(client, ada)
        assert "<td>Phone<td>" in form
        assert "_sinapse_end" not in form
        ticked = self.fields(ada, _sinapse_end=sessions_of(ada))
        assert client.post(f"/admin/auth/user/{ada.pk}/change/", ticked).status_code == 403
        assert len(sessions_of(ada)) == 1

    def test_one_who_is_added_has_none(self, boss: Client) -> None:
        assert "push_sessions" not in boss.get("/admin/auth/user/add/").content.decode()

    def test_while_redis_is_away_it_says_so(self, boss: Client, ada: User) -> None:
        with settings(REDIS_URL=f"redis://127.0.0.1:{free_port()}"):
            assert "Redis at redis" in self.form(boss, ada)
            ticked = self.fields(ada, first_name="Ada", _sinapse_end="x")
            answer = boss.post(f"/admin/auth/user/{ada.pk}/change/", ticked, follow=True)
        assert "Not all sessions have ended: Redis at" in answer.content.decode()
        ada.refresh_from_db()
        assert ada.first_name == "Ada"


def run(*command: object, **options: Any) -> tuple[str, str]:
    """Run a management command, and return what it prints, to standard output and error."""
    out, err = io.StringIO(), io.StringIO()
    call_command(*command, stdout=out, stderr=err, **options)  # type: ignore[arg-type]
    return out.getvalue(), err.getvalue()


def listened(daemon: Daemon, count: int, say: Callable[[], object], *, as_json: bool) -> str:
    """Return what ada's listener shows of so many messages, which are said while it listens."""
    err, out = io.StringIO(), io.StringIO()

    def listen() -> None:
        try:
            call_command("sinapse_listen", "ada", count=count, json=as_json, stdout=out, stderr=err)
        finally:
            connections.close_all()

    with settings(URL=f"http://127.0.0.1:{daemon.port}/"), ThreadPoolExecutor(1) as thread:
        listening = thread.submit(listen)
        eventually(lambda: "Listening" in err.getvalue() or listening.done(), "it listens")
        say()
        listening.result()
    return out.getvalue()


class TestCommands:
    def test_a_token_for_a_user_or_another_subject(self, ada: User) -> None:
        device = Device.objects.create()
        token = run("sinapse_token", "ada", "--expires-in", "60")[0].strip()
        assert subject(ada).auth.token == token
        assert run("sinapse_token", "ada")[0].strip() == token
        assert run("sinapse_token", "ada", "--new")[0].strip() != token
        of_device = run("sinapse_token", f"django_site.device:{device.pk}")[0].strip()
        assert device.sinapse.auth.token == of_device
        assert run("sinapse_token", "ada", "--revoke") == ("", "Revoked.\n")
        assert run("sinapse_token", "ada", "--revoke") == ("", "There was none.\n")
        assert subject(ada).auth.token is None

    @pytest.mark.parametrize(
        "who", ["nobody", "django_site.device:99", "no.model:1", "auth.user:x"]
    )
    def test_somebody_unknown_is_an_error_in_one_line(self, who: str) -> None:
        with pytest.raises(CommandError, match=f"^There is no '{who}'"):
            run("sinapse_token", who)

    def test_a_message_from_the_command_line(self, listener: Listener) -> None:
        said = run("sinapse_publish", "news", "hello", "--event", "greeting", "--retain", "0")
        assert said == ("", "1 daemon(s) heard it.\n")
        [(channel, payload)] = listener.heard()
        assert (channel, unpack(payload)[:2]) == ("news", ("hello", "greeting"))

    def test_what_new_streams_get_is_said_on_the_command_line(
        self, redis_client: redis.Redis
    ) -> None:
        run("sinapse_publish", "news", "hello", "--replay", "2", "--retain-messages", "3")
        assert redis_client.hget("sinapse:replay", "news") == b"2"
        run("sinapse_publish", "news", "hello", "--replay", "all")
        assert redis_client.hget("sinapse:replay", "news") == b"all"
        with pytest.raises(CommandError, match="replay is a whole number"):
            run("sinapse_publish", "news", "hello", "--replay", "some")

    def test_a_message_from_standard_input(
        self, listener: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("two\nlines"))
        run("sinapse_publish", "news", "-")
        assert heard(listener) == [("news", "two\nlines")]

    def test_what_cannot_be_done_is_said_in_one_line(self, ada: User) -> None:
        with pytest.raises(CommandError, match="reserved"):
            run("sinapse_publish", "sinapse:x", "hello")
        with pytest.raises(CommandError, match="expires_in"):
            run("sinapse_token", "ada", "--expires-in", "-1")
        with (
            settings(REDIS_URL=f"redis://127.0.0.1:{free_port()}"),
            pytest.raises(CommandError, match="Redis at redis"),
        ):
            run("sinapse_publish", "news", "hello")

    def test_listening_as_a_user_does(self, daemon: Daemon, ada: User) -> None:
        subject(ada).add_channel("news")

        def say() -> None:
            publish("news", "two\nlines", "greeting")
            publish("news", "plain", retain=0)

        first, second = map(json.loads, listened(daemon, 2, say, as_json=True).splitlines())
        assert (first["data"], first["event"]) == ("two\nlines", "greeting")
        assert first["id"]
        assert second == {"data": "plain", "event": None, "id": None, "by": None}

    @pytest.mark.parametrize("as_json", [True, False])
    def test_what_a_terminal_takes_for_a_command_is_shown(
        self, daemon: Daemon, ada: User, as_json: bool
    ) -> None:
        subject(ada).add_channel("news")

        def say() -> None:
            publish("news", "a\x1b]52;\x07\x9b2J", "e\x1b[2J")

        shown = listened(daemon, 1, say, as_json=as_json)
        for command in ("\x1b", "\x07", "\x9b"):
            assert command not in shown
        assert "52;" in shown

    def test_a_listener_without_a_channel_or_a_daemon_is_told(
        self, daemon: Daemon, ada: User
    ) -> None:
        with pytest.raises(CommandError, match="answers 401"):
            run("sinapse_listen", "ada", url=f"http://127.0.0.1:{daemon.port}/")
        with pytest.raises(CommandError, match="refused"):
            run("sinapse_listen", "ada", url=f"http://127.0.0.1:{free_port()}/")
        with settings(URL="/streams/"), pytest.raises(CommandError, match="--url is needed"):
            run("sinapse_listen", "ada")

    @pytest.mark.parametrize("name", ["sinapse_token", "sinapse_listen"])
    def test_where_tokens_are_hashed_it_is_said_what_makes_one(
        self, ada: User, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv("SINAPSE_HASH_TOKENS", "1")
        with (
            settings(TOKEN_LIFETIME=62),  # Another one, for a publisher of its own.
            pytest.raises(CommandError, match=r"'sinapse_token --new' makes another in its place$"),
        ):
            run(name, "ada")


def messages(**options: Any) -> list[str]:
    """Return what our checks say."""
    return [each.msg for each in run_checks(**options) if (each.id or "").startswith("sinapse.")]


class TestMixins:
    """Models that have mixins which know nothing of Django."""

    def test_those_of_the_library_are_named_with_the_line_that_is_right(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from sinapse import publisher
        from sinapse.publisher import aio
        from sinapse.publisher import django as ours

        with isolate_apps("tests.support.django_site") as isolated:

            class Hall(publisher.Publishable, publisher.Group, models.Model):
                class Meta:
                    app_label = "django_site"

            class Reader(aio.Subject, models.Model):
                class Meta:
                    app_label = "django_site"

            class Writer(publisher.Subject, models.Model):
                sinapse_id = "writer"

                class Meta:
                    app_label = "django_site"

            class Crew(publisher.Group, models.Model):
                sinapse_group = "crew"

                class Meta:
                    app_label = "django_site"

            class Base(ours.Publishable, models.Model):
                class Meta:
                    abstract = True

            class Fine(Base, publisher.Publishable):
                class Meta:
                    app_label = "django_site"

        monkeypatch.setattr("sinapse.publisher.django.checks.apps", isolated)
        assert [(each.id, each.obj, each.hint) for each in run_checks(tags=["sinapse"])] == [
            ("sinapse.W003", Hall, "from sinapse.publisher.django import Publishable"),
            ("sinapse.W003", Hall, "from sinapse.publisher.django import Group"),
            ("sinapse.W003", Reader, "from sinapse.publisher.django import Subject"),
            ("sinapse.W003", Writer, "from sinapse.publisher.django import Subject"),
        ]
        said = {each.obj: each.msg.partition(": ")[2] for each in run_checks(tags=["sinapse"])}
        assert said[Reader] == (
            "it publishes before the commit and may have the id of a subject of another model"
        )
        # It has an id of its own, but writer.sinapse.publish is that of the library.
        assert said[Writer] == "it publishes before the commit"
        assert said.keys().isdisjoint({Crew, Fine})

    def test_those_of_this_project_are_right(self) -> None:
        assert run_checks(tags=["sinapse"]) == []


class TestAutostart:
    """Where it is refused; ``test_development.py`` has where it is not."""

    @pytest.fixture(autouse=True)
    def _settings(self) -> Iterator[None]:
        from django.apps import apps

        app = apps.get_app_config("sinapse")
        with settings(AUTOSTART=True):
            app.ready()
            yield
        app.ready()

    def test_a_server_says_once_that_it_has_none(self, caplog: pytest.LogCaptureFixture) -> None:
        Client().get("/plain")
        Client().get("/plain")
        assert [each.getMessage() for each in caplog.records] == [
            (
                "SINAPSE['AUTOSTART'] starts no daemon here: it is for manage.py runserver with "
                "DEBUG, flask run --debug, uvicorn --reload, fastapi dev"
            )
        ]

    def test_what_is_captured_has_none_to_miss(self, caplog: pytest.LogCaptureFixture) -> None:
        with capture():
            Client().get("/plain")
        assert caplog.records == []

    def test_the_check_for_production_finds_it(self) -> None:
        assert "sinapse.W004" in [
            each.id for each in run_checks(tags=["sinapse"], include_deployment_checks=True)
        ]
        assert run_checks(tags=["sinapse"]) == []

    def test_the_folder_is_that_of_the_project(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("REDIS_URL", raising=False)
        with override_settings(SINAPSE={"AUTOSTART": True}, BASE_DIR=Path("/site")):
            configuration.forget()
            assert configuration.read().arguments["url"] == "embedded:/site/.sinapse"
        monkeypatch.chdir(tmp_path)
        with override_settings(SINAPSE={"AUTOSTART": True}):
            assert configuration.read().autostart == tmp_path / ".sinapse"

    def test_faults_are_for_the_checks(self) -> None:
        from sinapse.publisher.django import development

        with settings(AUTOSTART=True, URL="nonsense"):
            development.start()
            assert messages() == [
                "SINAPSE['URL'] must be like https://push.example/, or a path that begins with /"
            ]


class TestSettings:
    def test_good_ones_are_used(self, redis_server: RedisServer) -> None:
        with settings(RETAIN=60, RETAIN_MESSAGES=5, MAX_MESSAGE=10, TIMEOUT=1.5):
            assert messages() == []
            assert default().max_message == 10
            assert str(default().url) == redis_server.url
            with pytest.raises(ValueError, match="10 bytes"):
                publish("news", "eleven bytes")

    def test_without_any_the_environment_decides(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REDIS_URL", "redis://a.example/3")
        monkeypatch.setenv("SINAPSE_URL", "https://push.example/x")
        with override_settings(SINAPSE={}):
            assert str(default().url) == "redis://a.example:6379/3"
            assert configuration.read().url == "https://push.example/x"
            assert messages() == []

    @pytest.mark.parametrize(
        ("given", "fault"),
        [
            ({"RETIAN": 60}, "SINAPSE['RETIAN'] is not known: did you mean SINAPSE['RETAIN']?"),
            ({"RETAIN": "60"}, "SINAPSE['RETAIN'] must be a number of seconds, not '60'"),
            ({"RETAIN_MESSAGES": 0}, "SINAPSE['RETAIN_MESSAGES'] must be 1 to 1e+06 messages"),
            ({"PREFIX": "a{b}:"}, "SINAPSE['PREFIX'] must be 1 to 64 printable ASCII characters"),
            ({"PREFIX": 1}, "SINAPSE['PREFIX'] must be a str, not int"),
            ({"URL": "push.example"}, "SINAPSE['URL'] must be like https://push.example/"),
            ({"REDIS_URL": "localhost"}, "SINAPSE['REDIS_URL'] has no scheme: write redis://"),
            ({"REVOKE_ON_LOGOUT": "no"}, "SINAPSE['REVOKE_ON_LOGOUT'] must be True or False"),
            ("redis://a.example", "SINAPSE must be a dictionary"),
        ],
    )
    def test_bad_ones_are_errors_of_the_check_and_of_the_first_use(
        self, given: object, fault: str
    ) -> None:
        with override_settings(SINAPSE=given):
            [message] = messages()
            assert message.startswith(fault)
            with pytest.raises(ImproperlyConfigured, match=re.escape(fault)):
                publish("news", "hello")

    def test_a_bad_environment_is_one_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SINAPSE_RETAIN", "long")
        with settings():
            assert "SINAPSE_RETAIN must be a number of seconds" in messages()[0]
            with pytest.raises(ImproperlyConfigured, match="SINAPSE_RETAIN"):
                publish("news", "hello")

    def test_a_password_is_not_shown(self) -> None:
        with override_settings(SINAPSE={"REDIS_URL": "redis://u:hid/den@a.example"}):
            assert "hid" not in "".join(messages())

    def test_redis_and_tls_are_looked_at_before_a_deployment(self) -> None:
        away = f"redis://127.0.0.1:{free_port()}"
        with settings(REDIS_URL=away, URL="http://push.example/"):
            assert messages() == []
            unreachable, without_tls = sorted(messages(include_deployment_checks=True))
            assert unreachable.startswith(f"Redis at {away}")
            assert without_tls.startswith("SINAPSE['URL'] is http://push.example/")
            assert messages(databases=["default"]) == [unreachable]
            everything = messages(include_deployment_checks=True, databases=["default"])
            assert sorted(set(everything)) == [unreachable, without_tls]
        with settings(URL="https://push.example/"):
            assert messages(include_deployment_checks=True, databases=["default"]) == []
