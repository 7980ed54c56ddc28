"""Applications whose tests Django sets up: a project and a run of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = """
SECRET_KEY = "for tests"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "sinapse.publisher.django"]
SINAPSE = {"REDIS_URL": "redis://127.0.0.1:1/0", "OUTBOX": True}
USE_TZ = True
"""

#: What is published with them is caught; where nobody catches it, the Redis that is not there says.
CATCHING = """
import pytest
from django.contrib.auth.models import User
from django.test import TestCase, override_settings

from sinapse.errors import BrokerUnavailable
from sinapse.publisher import default
from sinapse.publisher.django import publish, subject
from sinapse.testing import assert_publishes, capture, captured


class TestOfDjango(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.ada = User.objects.create(username="ada")
        subject(cls.ada).add_channel("news")

    def test_what_is_published_is_caught(self):
        assert list(captured()) == []
        assert publish("news", "hello", on_commit=False, message_id="1") == 1
        captured().assert_published(1, channel="news", message="hello")

    def test_nothing_of_another_test_is_left_but_who_may_listen(self):
        assert list(captured()) == []
        assert publish("news", "hello", on_commit=False, message_id="1") == 1
        assert subject(self.ada).channels == {"news"}

    def test_a_commit_that_is_carried_out_is_caught(self):
        with assert_publishes(1, channel="news"), self.captureOnCommitCallbacks(execute=True):
            publish("news", "hello")

    def test_a_capture_of_its_own_has_what_comes_in_it(self):
        with capture() as messages:
            publish("news", "hello", on_commit=False)
            assert default().channels.list(f"auth.user:{self.ada.pk}") == set()
        assert len(messages) == 1
        assert list(captured()) == []

    @override_settings(SINAPSE={"REDIS_URL": "redis://127.0.0.1:1/0", "TEST_CAPTURE": False})
    def test_who_wants_redis_has_it(self):
        with self.assertRaises(BrokerUnavailable):
            publish("news", "hello", on_commit=False)
        with self.assertRaisesRegex(RuntimeError, "nothing is captured"):
            captured()


def test_one_that_is_not_of_django_begins_without_messages_too():
    assert list(captured()) == []
    default().publish("news", "hello")
    assert len(captured()) == 1


def test_and_so_does_the_next():
    assert list(captured()) == []
"""

#: With pytest only: its fixtures.
SERVING = """
from sinapse.publisher import default
from sinapse.publisher.django import publish
from sinapse.testing import captured


def test_a_daemon_that_is_asked_for_delivers(sinapse_server):
    with sinapse_server.listen("42", "news") as listener:
        assert publish("news", "hello", on_commit=False) == 1
        assert listener.next().data == "hello"


def test_after_it_what_is_published_is_caught(sinapse_daemon):
    publish("news", "hello", on_commit=False)
    captured().assert_published(1, message="hello")
    token = sinapse_daemon.token("42", "news")  # Of a fixture for the session, say.
    assert default().tokens.get("42") != token
"""

TESTS = """
import pytest
from django.db import transaction

from sinapse.publisher.django import publish
from sinapse.publisher.django.models import OutboxMessage
from sinapse.testing import capture


def test_callbacks_that_are_captured_send(db, django_capture_on_commit_callbacks):
    with capture() as messages:
        publish("news", "outside of the block")
        with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
            publish("news", "first")
            publish("other", "second")
    assert [each.data for each in messages] == ["first", "second"]
    assert [row.message for row in OutboxMessage.objects.all()] == ["outside of the block"]


def test_those_that_are_not_executed_send_nothing(db, django_capture_on_commit_callbacks):
    assert OutboxMessage.objects.count() == 0
    with capture() as messages, django_capture_on_commit_callbacks():
        publish("news", "waits")
    assert list(messages) == []
    assert OutboxMessage.objects.count() == 1


def test_a_commit_sends(transactional_db):
    with capture() as messages:
        with transaction.atomic():
            publish("news", "first")
            publish("news", "second")
            assert list(messages) == []
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            publish("news", "rolled back")
            raise ZeroDivisionError
    assert [each.data for each in messages] == ["first", "second"]
    assert OutboxMessage.objects.count() == 0
"""


def run(folder: Path, *command: str) -> str:
    """Run tests in a project, and return what they say."""
    (folder / "site_settings.py").write_text(SETTINGS)
    options = "DJANGO_SETTINGS_MODULE = site_settings\nfilterwarnings = error\n"
    (folder / "pytest.ini").write_text(f"[pytest]\n{options}")
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "site_settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


PYTEST = ("pytest", "-q", "-p", "no:cacheprovider")


def test_what_its_fixtures_commit_is_sent(tmp_path: Path) -> None:
    (tmp_path / "test_site.py").write_text(TESTS)
    said = run(tmp_path, *PYTEST)
    assert "3 passed" in said, said


@pytest.mark.timeout(120)
def test_what_no_test_captures_is_caught_with_pytest_django(tmp_path: Path) -> None:
    (tmp_path / "test_site.py").write_text(CATCHING)
    (tmp_path / "test_daemon.py").write_text(SERVING)
    said = run(tmp_path, *PYTEST)
    assert "9 passed" in said, said


def test_and_with_the_test_runner_of_django_also_in_several_processes(tmp_path: Path) -> None:
    (tmp_path / "test_site.py").write_text(CATCHING)
    (tmp_path / "test_other.py").write_text(CATCHING)
    said = run(tmp_path, "django", "test", "--parallel", "2")
    assert "Ran 10 tests" in said, said
    assert said.rstrip().endswith("OK") or "\nOK\n" in said, said
