"""A Django project: its models, and the one set-up that a process can have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import django
from django.conf import settings

from sinapse.publisher import defaults, use

MEMORY = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}


def set_up() -> None:
    """Set Django up with this project's settings, unless that was done in this process."""
    if settings.configured:
        return
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={name: dict(MEMORY) for name in ("default", "other")},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        LOGIN_REDIRECT_URL="/page",
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
            "sinapse.publisher.django",
            "tests.support.django_site",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            "sinapse.publisher.django.middleware.DeviceMiddleware",
        ],
        # So that models without migrations may extend those that have some.
        MIGRATION_MODULES=dict.fromkeys(("admin", "auth", "contenttypes", "sessions")),
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF="tests.support.django_site.urls",
        SECRET_KEY="for tests",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        USE_TZ=True,
    )
    django.setup()
    defaults.configure(None)  # What else is tested in this process knows no Django.


@contextlib.contextmanager
def running(folder: Path) -> Iterator[None]:
    """Be the application of this process, with databases as Django's own test runner makes them.

    They are files in `folder`: Django does not close what is in memory.
    """
    from django.apps import apps
    from django.db import connections
    from django.test.utils import setup_databases, teardown_databases

    former = use(None)
    apps.get_app_config("sinapse").ready()
    for connection in connections.all():
        connection.settings_dict["TEST"]["NAME"] = str(folder / f"{connection.alias}.sqlite3")
    made = setup_databases(verbosity=0, interactive=False)
    try:
        yield
    finally:
        defaults.configure(None)
        use(former)
        teardown_databases(made, verbosity=0)
        connections.close_all()
