"""The outbox in an application whose tests have pytest-django: a project and a run of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SETTINGS = """
SECRET_KEY = "for tests"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "sinapse.publisher.django"]
SINAPSE = {"REDIS_URL": "redis://127.0.0.1:1/0", "OUTBOX": True}
USE_TZ = True
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


def test_what_its_fixtures_commit_is_sent(tmp_path: Path) -> None:
    (tmp_path / "site_settings.py").write_text(SETTINGS)
    (tmp_path / "test_site.py").write_text(TESTS)
    options = "DJANGO_SETTINGS_MODULE = site_settings\nfilterwarnings = error\n"
    (tmp_path / "pytest.ini").write_text(f"[pytest]\n{options}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
