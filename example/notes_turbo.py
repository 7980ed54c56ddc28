"""Notes with Turbo and Django: everybody who has logged in sees each note at once.

Turbo comes by npm, into the folder that this is started in::

    npm install @hotwired/turbo@8
    python notes_turbo.py 8000

Everything in one file, which a project would have in several. There are no passwords, and the
notes are in memory.
"""

import os
import secrets
import sys
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command, execute_from_command_line
from django.db import connection, models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.template.loader import get_template
from django.urls import include, path
from django.views.decorators.http import require_POST
from django.views.static import serve

HERE = Path(__file__).parent

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": "file:notes?mode=memory&cache=shared",
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "sinapse.publisher.django",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_urlsafe(),
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    SINAPSE={"TOKEN_LIFETIME": float(os.environ.get("TOKEN_LIFETIME", "86400"))},
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "DIRS": [HERE / "templates"],
            "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
        }
    ],
)
django.setup()

# Only now are there settings.
from django.contrib.auth import login, logout  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402

from sinapse.publisher.django import publish, subject, with_position  # noqa: E402
from sinapse.publisher.html import turbo_stream  # noqa: E402

CHANNEL = "notes"


class Note(models.Model):
    """What somebody has written."""

    name = models.CharField(max_length=40)
    text = models.CharField(max_length=200)

    class Meta:
        """The table."""

        app_label = "notes"

    def __str__(self) -> str:
        return str(self.text)


@with_position
def page(request: HttpRequest) -> HttpResponse:
    """Show the notes, or the form to log in."""
    if not request.user.is_authenticated:
        return render(request, "notes_login.html")
    return render(request, "notes_turbo.html", {"notes": Note.objects.order_by("id")})


@require_POST
def log_in(request: HttpRequest) -> HttpResponse:
    """Let a user hear of notes."""
    user, _ = User.objects.get_or_create(username=request.POST["name"][:40])
    login(request, user)
    subject(user).add_channel(CHANNEL)
    return HttpResponseRedirect("/")


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    """End the session of this device, and its streams."""
    logout(request)
    return HttpResponseRedirect("/")


@require_POST
def write(request: HttpRequest) -> HttpResponse:
    """Write a note; it is published when it is committed."""
    if not request.user.is_authenticated:
        return HttpResponse(status=401)
    name, text = request.user.get_username(), request.POST["text"][:200]
    note = Note.objects.create(name=name, text=text)
    template = get_template("note.html")
    publish(CHANNEL, *turbo_stream("append", "notes", template, {"note": note}))
    return HttpResponse(status=204)


urlpatterns = [
    path("", page),
    path("login", log_in),
    path("logout", log_out),
    path("notes", write),
    path("sinapse/", include("sinapse.publisher.django.urls")),
    path("static/<path:path>", serve, {"document_root": HERE / "static"}),
    path("js/<path:path>", serve, {"document_root": "node_modules"}),
]


def main() -> None:
    """Make the tables, and serve."""
    connection.ensure_connection()  # What is in memory lives as long as one of its connections.
    call_command("migrate", verbosity=0)
    with connection.schema_editor() as editor:
        editor.create_model(Note)
    port = sys.argv[1] if len(sys.argv) > 1 else "8000"
    execute_from_command_line([sys.argv[0], "runserver", "--noreload", port])


if __name__ == "__main__":
    main()
