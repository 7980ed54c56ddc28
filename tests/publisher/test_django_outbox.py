"""The outbox of Django: a message is a row of its transaction until Redis has it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import celery
import pytest
import redis
from asgiref.sync import async_to_sync, sync_to_async

from tests.support import django_site

django_site.set_up()

from django.contrib import admin  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import CommandError, call_command  # noqa: E402
from django.db import connection, connections, transaction  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.test import AsyncClient, Client, TestCase, override_settings  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from sinapse.cli.checks.finding import Verdict  # noqa: E402
from sinapse.cli.checks.relay import check_relay  # noqa: E402
from sinapse.publisher import default  # noqa: E402
from sinapse.publisher.django import configuration, publish, publish_on_save  # noqa: E402
from sinapse.publisher.django import outbox as outboxes  # noqa: E402
from sinapse.publisher.django.admin import OutboxAdmin  # noqa: E402
from sinapse.publisher.django.checks import check_outbox  # noqa: E402
from sinapse.publisher.django.models import OutboxMessage  # noqa: E402
from sinapse.publisher.outbox import committed  # noqa: E402
from sinapse.publisher.outbox.metrics import text  # noqa: E402
from sinapse.publisher.outbox.relay import Relay  # noqa: E402
from sinapse.publisher.outbox.running import serve  # noqa: E402
from sinapse.testing import capture  # noqa: E402
from tests.support import RedisServer, free_port  # noqa: E402
from tests.support.django_site.models import Room  # noqa: E402
from tests.support.listening import Listener, heard  # noqa: E402
from tests.support.proxy import Proxy  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with django_site.running(tmp_path_factory.mktemp("django")):
        yield


@pytest.fixture(autouse=True)
def redis_url(redis_server: RedisServer) -> Iterator[str]:
    """Let the settings name the session's Redis, with an outbox; begin without rows."""
    with override_settings(SINAPSE={"REDIS_URL": redis_server.url, "OUTBOX": True}):
        yield redis_server.url
        default().close()
    committed.Pause.until = 0.0
    for model in (Room, OutboxMessage):
        for using in connections:
            model.objects.using(using).all().delete()


def away() -> Any:
    """Return a context in which Redis is away."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    return override_settings(SINAPSE={"REDIS_URL": url, "OUTBOX": True})


def waiting(using: str = "default") -> list[str]:
    return [row.message for row in OutboxMessage.objects.using(using).order_by("id")]


class TestCommit:
    def test_it_is_a_row_until_the_commit_and_is_sent_then(self, listener: Listener) -> None:
        with transaction.atomic():
            assert publish("news", "first", event="headline", but="mine") is None
            publish("news", {"n": 2}, retain=60, replay="all")
            assert waiting() == ["first", '{"n":2}']
            assert heard(listener) == []
        assert waiting() == []
        assert heard(listener) == [("news", "first"), ("news", '{"n":2}')]
        assert [each.data for each in default().history("news").messages] == ["first", '{"n":2}']
        assert default().history("news").messages[0].event == "headline"

    def test_without_a_transaction_it_is_sent_at_once(self, listener: Listener) -> None:
        assert publish("news", "hello") == 1
        assert heard(listener) == [("news", "hello")]

    @pytest.mark.parametrize("is_nested", [False, True])
    def test_what_is_rolled_back_was_never_there(self, listener: Listener, is_nested: bool) -> None:
        with transaction.atomic():
            publish("news", "kept")
            with transaction.atomic():
                publish("news", "rolled back")
                if is_nested:
                    with transaction.atomic():
                        publish("other", "as well")
                transaction.set_rollback(True)
            publish("news", "after it")
        assert heard(listener) == [("news", "kept"), ("news", "after it")]
        assert waiting() == []

    def test_a_savepoint_that_is_rolled_back_alone_leaves_the_rest(
        self, listener: Listener
    ) -> None:
        with transaction.atomic():
            with transaction.atomic():
                publish("news", "rolled back")
                transaction.set_rollback(True)
            publish("news", "kept")
        assert heard(listener) == [("news", "kept")]

    def test_models_and_signals_do_the_same(self, listener: Listener) -> None:
        stop = publish_on_save(Room, message=["title"], event="saved")
        try:
            with transaction.atomic():
                room = Room.objects.create(title="Lobby")
                room.publish("hello")
                assert len(waiting()) == 2
            Room.objects.create(title="Hall")
        finally:
            stop()
        assert [data for _, data in heard(listener)] == [
            '{"title":"Lobby"}',
            "hello",
            '{"title":"Hall"}',
        ]
        assert waiting() == []

    def test_each_database_has_its_own(self, listener: Listener) -> None:
        with transaction.atomic(using="other"), transaction.atomic():
            publish("news", "there", using="other")
            publish("news", "here")
            assert (waiting(), waiting("other")) == (["here"], ["there"])
        assert {data for _, data in heard(listener)} == {"here", "there"}

    def test_where_routers_allow_no_table_it_is_sent_after_the_commit(
        self, listener: Listener
    ) -> None:
        class Router:
            def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool | None:
                return False if (db, app_label) == ("other", "sinapse") else None

        with override_settings(DATABASE_ROUTERS=[Router()]):
            assert outboxes.databases() == ["default"]
            with transaction.atomic(using="other"):
                publish("news", "hello", using="other")
                assert waiting("other") == []
            assert heard(listener) == [("news", "hello")]

    def test_where_the_application_commits_by_itself_the_relay_sends_it(
        self, listener: Listener
    ) -> None:
        connection.set_autocommit(False)
        try:
            publish("news", "hello")
            connection.commit()
        finally:
            connection.set_autocommit(True)
        assert heard(listener) == []
        call_command("sinapse_relay", "--once")
        assert heard(listener) == [("news", "hello")]


class TestFailures:
    def test_what_redis_does_not_take_waits_and_comes_before_what_follows(
        self, listener: Listener, caplog: pytest.LogCaptureFixture
    ) -> None:
        with away(), transaction.atomic():
            publish("news", "1")
            publish("other", "1")
        assert waiting() == ["1", "1"]
        [record] = [each for each in caplog.records if each.levelno >= logging.WARNING]
        assert record.getMessage().startswith("Messages wait in the outbox: ")
        assert record.exc_info is None
        with transaction.atomic():
            publish("news", "2")
        assert heard(listener) == [("news", "1"), ("news", "2")]
        call_command("sinapse_relay", "--once")
        assert heard(listener) == [("other", "1")]
        assert waiting() == []

    def test_a_lost_answer_does_not_send_it_twice(self, listener: Listener, proxy: Proxy) -> None:
        settings = {"REDIS_URL": proxy.url, "OUTBOX": True, "TIMEOUT": 0.2}
        with override_settings(SINAPSE=settings):
            with transaction.atomic():
                publish("news", "warm")
            proxy.down = lambda _link, _data: b""  # Redis hears it; what it says is lost.
            with transaction.atomic():
                publish("news", "once")
        assert waiting() == ["once"]
        call_command("sinapse_relay", "--once")
        assert heard(listener) == [("news", "warm"), ("news", "once")]
        assert waiting() == []

    def test_one_that_can_never_be_sent_is_set_aside_and_holds_nobody_up(
        self, listener: Listener, caplog: pytest.LogCaptureFixture
    ) -> None:
        with away(), transaction.atomic():
            publish("news", "x" * 2000)
            publish("news", "short")
        with override_settings(SINAPSE={**_current(), "MAX_MESSAGE": 1000}):
            call_command("sinapse_relay", "--once")
        assert heard(listener) == [("news", "short")]
        [left] = OutboxMessage.objects.all()
        assert left.refused == "the message is over 1000 bytes"
        assert f"message {left.pk} is set aside: the message is over 1000 bytes" in caplog.text
        call_command("sinapse_relay", "--once")
        assert len(waiting()) == 1

    def test_a_channel_whose_key_is_not_ours_waits_alone(
        self, listener: Listener, redis_client: redis.Redis
    ) -> None:
        redis_client.set("sinapse:retained:news", "not ours")
        with transaction.atomic():
            for number in range(3):
                publish("news", str(number))
                publish("other", str(number))
        assert heard(listener) == [("other", "0"), ("other", "1"), ("other", "2")]
        assert waiting() == ["0", "1", "2"]
        redis_client.delete("sinapse:retained:news")
        call_command("sinapse_relay", "--once")
        assert heard(listener) == [("news", "0"), ("news", "1"), ("news", "2")]

    def test_many_of_a_channel_that_redis_refuses_keep_nobody_waiting(
        self, listener: Listener, redis_client: redis.Redis
    ) -> None:
        """More than are read at once, and all of them before the others."""
        with away(), transaction.atomic():
            for number in range(1200):
                publish("news", str(number))
            publish("other", "follows them")
        redis_client.set("sinapse:retained:news", "not ours")
        with pytest.raises(CommandError, match="sinapse:retained:news"):
            call_command("sinapse_relay", "--once")
        assert heard(listener) == [("other", "follows them")]
        assert len(waiting()) == 1200

    def test_a_message_id_of_the_application_is_kept(self, listener: Listener) -> None:
        for _ in range(2):
            with transaction.atomic():
                publish("news", "once", message_id="order:1:paid")
        assert heard(listener) == [("news", "once")]
        assert waiting() == []


def _pages() -> Any:
    """Return a URLconf whose pages publish as often as they are asked to, and fail if they are."""

    def work(request: HttpRequest) -> HttpResponse:
        for number in range(int(request.GET["count"])):
            publish("news", str(number))
        if "fails" in request.GET:
            raise ZeroDivisionError
        return HttpResponse(str(len(waiting())))

    def in_transaction(request: HttpRequest) -> HttpResponse:
        with transaction.atomic():
            return work(request)

    async def awaited(request: HttpRequest) -> HttpResponse:
        return await sync_to_async(in_transaction)(request)

    class Pages:
        urlpatterns: ClassVar = [path("work", work), path("awaited", awaited)]

    return Pages


class TestRequests:
    @pytest.fixture(autouse=True)
    def _site(self) -> Iterator[None]:
        with override_settings(ROOT_URLCONF=_pages()):
            yield

    @pytest.fixture
    def _atomic(self) -> Iterator[None]:
        connection.settings_dict["ATOMIC_REQUESTS"] = True
        yield
        connection.settings_dict["ATOMIC_REQUESTS"] = False

    @pytest.mark.usefixtures("_atomic")
    def test_a_request_is_a_transaction_and_what_is_more_than_it_sends_is_for_the_relay(
        self, listener: Listener
    ) -> None:
        assert Client().get("/work?count=201").content == b"201"
        assert heard(listener) == [("news", str(number)) for number in range(200)]
        call_command("sinapse_relay", "--once")
        assert heard(listener) == [("news", "200")]
        assert waiting() == []

    @pytest.mark.usefixtures("_atomic")
    def test_a_request_that_fails_sends_nothing(self, listener: Listener) -> None:
        answer = Client(raise_request_exception=False).get("/work?count=200&fails")
        assert answer.status_code == 500
        assert waiting() == []
        assert heard(listener) == []

    @pytest.mark.parametrize("fails", ["", "&fails"])
    def test_a_view_under_asgi_has_its_transaction_in_a_thread(
        self, listener: Listener, fails: str
    ) -> None:
        async def get() -> int:
            client = AsyncClient(raise_request_exception=False)
            return (await client.get(f"/awaited?count=2{fails}")).status_code

        assert async_to_sync(get)() == (500 if fails else 200)
        assert heard(listener) == ([] if fails else [("news", "0"), ("news", "1")])
        assert waiting() == []


class TestBulk:
    def test_what_is_created_at_once_is_published_in_the_same_transaction(
        self, listener: Listener
    ) -> None:
        """No signal is sent for it."""
        stop = publish_on_save(Room, message=["title"])
        try:
            with transaction.atomic():
                for room in Room.objects.bulk_create([Room(title="a"), Room(title="b")]):
                    room.publish({"title": room.title})
        finally:
            stop()
        assert [data for _, data in heard(listener)] == ['{"title":"a"}', '{"title":"b"}']
        assert waiting() == []


class TestTasks:
    def test_a_task_that_is_begun_on_commit_comes_after_what_was_published_before_it(
        self, listener: Listener
    ) -> None:
        app = celery.Celery(task_cls="celery.contrib.django.task:DjangoTask", set_as_current=False)
        app.conf.task_always_eager = True

        @app.task  # type: ignore[untyped-decorator]  # Celery has no types.
        def answer() -> None:
            with transaction.atomic():
                publish("news", "of the task")

        with transaction.atomic():
            publish("news", "of the request")
            answer.delay_on_commit()
            assert heard(listener) == []
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            publish("news", "rolled back")
            answer.delay_on_commit()
            raise ZeroDivisionError
        assert heard(listener) == [("news", "of the request"), ("news", "of the task")]
        assert waiting() == []


def _current() -> dict[str, Any]:
    from django.conf import settings

    return dict(settings.SINAPSE)


class TestUnderTests(TestCase):
    databases: ClassVar = {"default", "other"}  # type: ignore[misc]  # Django reads it of the class.

    def test_nothing_is_sent_before_django_is_told_to(self) -> None:
        with capture() as messages:
            publish("news", "outside of the block")
            with self.captureOnCommitCallbacks(execute=True):
                publish("news", "inside")
            assert [each.data for each in messages] == ["inside"]
            with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
                publish("news", "first")
                publish("other", "second")
            assert [each.data for each in messages[1:]] == ["first", "second"]
        assert waiting() == ["outside of the block"]


class TestRelay:
    def test_it_sends_a_backlog_in_order(self, listener: Listener) -> None:
        with away(), transaction.atomic():
            for number in range(2500):
                publish(f"room:{number % 7}", str(number))
        call_command("sinapse_relay", "--once")
        numbers = [int(data) for _, data in heard(listener)]
        assert numbers == list(range(2500))
        assert waiting() == []

    def test_a_table_that_is_not_there_is_told_in_one_line(self) -> None:
        table = OutboxMessage._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
        try:
            with pytest.raises(CommandError, match=f"^default: no such table: {table}$"):
                call_command("sinapse_relay", "--once")
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER TABLE elsewhere RENAME TO {table}")

    def test_where_no_database_may_have_one_it_ends(self) -> None:
        class Router:
            def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool | None:
                return False if app_label == "sinapse" else None

        with (
            override_settings(DATABASE_ROUTERS=[Router()]),
            pytest.raises(CommandError, match="no database may have an outbox"),
        ):
            call_command("sinapse_relay")

    def test_a_database_without_an_outbox_is_refused(self) -> None:
        with pytest.raises(CommandError, match="--database nowhere: it has no outbox; default"):
            call_command("sinapse_relay", "--once", "--database", "nowhere")

    @pytest.mark.parametrize("address", ["x", "70000", "127.0.0.1:", "a:b:c"])
    def test_an_address_that_is_none_is_refused(self, address: str) -> None:
        with pytest.raises(CommandError, match="--metrics "):
            call_command("sinapse_relay", "--metrics", address)

    def test_what_it_has_done_is_told_to_prometheus(self, listener: Listener) -> None:
        with away(), transaction.atomic():
            publish("news", "x" * 2000)
            publish("news", "waits")
        store = outboxes.DjangoStore("default")
        relay = Relay([store], default)
        with override_settings(SINAPSE={**_current(), "MAX_MESSAGE": 1000}), away():
            assert relay.send(store).messages == 0
        with override_settings(SINAPSE={**_current(), "MAX_MESSAGE": 1000}):
            OutboxMessage.objects.filter(message="waits").update(
                created=timezone.now() - timedelta(seconds=100)
            )
            before = values(text(relay, [store]))
            assert relay.send(store).messages == 1
            after = values(text(relay, [store]))
        assert before["sinapse_outbox_waiting"] == 2
        assert 100 <= before["sinapse_outbox_oldest_seconds"] < 200
        assert after == {
            "sinapse_outbox_waiting": 0,
            "sinapse_outbox_oldest_seconds": 0,
            "sinapse_outbox_set_aside": 1,
            "sinapse_outbox_sent_total": 1,
            "sinapse_outbox_set_aside_total": 1,
        }

    def test_the_doctor_says_whether_it_keeps_up(self, listener: Listener) -> None:
        stores = [outboxes.DjangoStore(using) for using in ("default", "other")]
        relay = Relay(stores, default)
        url = f"http://127.0.0.1:{free_port()}/metrics"
        what = f"relay {url}, outbox default"
        server = serve(url.split("/")[2], relay, stores)
        table = OutboxMessage._meta.db_table
        try:
            fine = list(check_relay(url))
            with away(), transaction.atomic():
                publish("news", "waits")
                publish("news", "is set aside")
            OutboxMessage.objects.filter(message="is set aside").update(refused="too large")
            OutboxMessage.objects.update(created=timezone.now() - timedelta(seconds=100))
            late = list(check_relay(url))
            assert relay.send(stores[0]).messages == 1
            sent = list(check_relay(url))
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
            [cut_off] = check_relay(url)
        finally:
            server.shutdown()
            server.server_close()
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER TABLE elsewhere RENAME TO {table}")
        assert {each.verdict for each in fine} == {Verdict.FINE}
        assert [each.what for each in fine[:2]] == [what, f"{what}, set aside"]
        assert [each.found for each in fine] == ["0 wait; 0 sent by this relay", "0"] * 2
        assert [each.verdict for each in late] == [Verdict.DOUBT] * 2 + [Verdict.FINE] * 2
        assert late[0].found.startswith("1 wait, the oldest for 10")
        assert "Its log says" in late[0].advice
        assert (late[1].found, late[1].advice[:24]) == ("1", "They can never be sent: ")
        assert (sent[0].verdict, sent[0].found) == (Verdict.FINE, "0 wait; 1 sent by this relay")
        assert (cut_off.verdict, cut_off.found) == (Verdict.WRONG, "answers 503")
        assert "database" in cut_off.advice

    def test_a_database_that_cannot_be_asked_is_told_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = outboxes.DjangoStore("default")
        relay = Relay([store], default)
        table = OutboxMessage._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
        try:
            relay.attempt(store)
            relay.attempt(store)
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER TABLE elsewhere RENAME TO {table}")
        [record] = [
            each for each in caplog.records if each.name == "sinapse.publisher.outbox.relay"
        ]
        told = f"Outbox default: the outbox cannot be read: no such table: {table}"
        assert record.getMessage() == told

    def test_it_is_a_task_of_celery(self, listener: Listener) -> None:
        from sinapse.publisher.django.tasks import relay

        with away(), transaction.atomic():
            publish("news", "hello")
        assert relay() == 1
        assert heard(listener) == [("news", "hello")]


def values(metrics: str) -> dict[str, float]:
    """Return the values of the default outbox."""
    found = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            assert sample.labels == {"outbox": "default"}
            found[sample.name] = sample.value
    return found


class TestAdmin:
    @pytest.fixture
    def boss(self) -> Iterator[Client]:
        user = User.objects.create_superuser("boss", password="secret")
        client = Client()
        client.force_login(user)
        yield client
        user.delete()

    def test_it_shows_what_waits_and_sends_again_what_is_set_aside(
        self, boss: Client, listener: Listener
    ) -> None:
        site = admin.AdminSite()
        site.register(OutboxMessage, OutboxAdmin)

        class Pages:
            urlpatterns: ClassVar = [path("admin/", site.urls)]

        with away(), transaction.atomic():
            publish("news", "hello")
        OutboxMessage.objects.update(refused="the message is over 1000 bytes")
        url = "/admin/sinapse/outboxmessage/"
        with override_settings(ROOT_URLCONF=Pages):
            page = boss.get(url).content.decode()
            assert "the message is over 1000 bytes" in page
            assert boss.get(f"{url}add/").status_code == 403
            chosen = [row.pk for row in OutboxMessage.objects.all()]
            again = {"action": "send_again", "_selected_action": chosen}
            page = boss.post(url, again, follow=True).content.decode()
            assert "1 message waits again." in page
        call_command("sinapse_relay", "--once")
        assert heard(listener) == [("news", "hello")]


class TestChecks:
    def test_a_database_without_the_table_is_told(self) -> None:
        assert check_outbox(databases=["default", "other"]) == []
        table = OutboxMessage._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
        try:
            [fault] = check_outbox(databases=["default", "other"])
            assert check_outbox(databases=None) == []
            with override_settings(SINAPSE={}):
                assert check_outbox(databases=["default"]) == []
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER TABLE elsewhere RENAME TO {table}")
        assert (fault.id, fault.msg) == (
            "sinapse.E002",
            f"the database 'default' has no table {table} for the outbox",
        )

    def test_the_setting_is_true_or_false(self) -> None:
        with override_settings(SINAPSE={"OUTBOX": "yes"}):
            assert list(configuration.faults()) == [
                "SINAPSE['OUTBOX'] must be True or False, not 'yes'"
            ]

    def test_there_is_a_migration_for_all_of_the_model(self) -> None:
        call_command("makemigrations", "sinapse", "--check", "--dry-run", verbosity=0)
