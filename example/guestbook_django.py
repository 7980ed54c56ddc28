"""The guest book with Django: what is saved is published, once it is committed.

Everything in one file, which a project would have in several: settings, a model, views, URLs.
"""

import json
import os
import secrets
import sys
from pathlib import Path

import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.db import connection, models
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

PAGE = Path(__file__).with_name("templates") / "guestbook.html"

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ.get("GUESTBOOK", "guestbook.sqlite3"),
        }
    },
    INSTALLED_APPS=["sinapse.publisher.django"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_urlsafe(),
    SINAPSE={"TOKEN_LIFETIME": 3600},
)
django.setup()

# Only now are there settings.
from sinapse.errors import BrokerUnavailable  # noqa: E402
from sinapse.publisher import default  # noqa: E402
from sinapse.publisher.django import (  # noqa: E402
    position_of,
    publish_on_save,
    token_response,
    with_position,
)

CHANNEL = "guestbook"

#: Whoever comes is the same subject: the book is for everybody to read.
VISITOR = "guestbook-visitor"


class Entry(models.Model):
    """What somebody has written."""

    text = models.CharField(max_length=200)

    class Meta:
        """The table."""

        app_label = "guestbook"

    def __str__(self) -> str:
        return str(self.text)


publish_on_save(Entry, message=["id", "text"], channel=CHANNEL, event="entry")


def page(_: HttpRequest) -> HttpResponse:
    """Show the page, which asks for everything else."""
    return HttpResponse(PAGE.read_bytes())


@with_position
def connect(request: HttpRequest) -> HttpResponse:
    """Say where the stream is and where it begins, and let the visitor hear of new entries."""
    try:
        default().channels.add(VISITOR, CHANNEL)
    except BrokerUnavailable:  # The page works without push for now: it asks again.
        return HttpResponse(status=503, headers={"Retry-After": "5"})
    return token_response(VISITOR, position_of(request))


def entries(request: HttpRequest) -> HttpResponse:
    """List the entries; or write one, which everybody sees at once."""
    if request.method == "POST":
        if request.content_type != "application/json":  # A form of another site could send that.
            return HttpResponse(status=415)
        text = str(json.loads(request.body)["text"])[:200]
        Entry.objects.create(text=text)
        return HttpResponse(status=204)
    return JsonResponse(list(Entry.objects.values("id", "text")), safe=False)


urlpatterns = [path("", page), path("connection", connect), path("entries", entries)]


def main() -> None:
    """Make the table, and serve."""
    if Entry._meta.db_table not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Entry)
    port = sys.argv[1] if len(sys.argv) > 1 else "8000"
    execute_from_command_line([sys.argv[0], "runserver", "--noreload", port])


if __name__ == "__main__":
    main()
