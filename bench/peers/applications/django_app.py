"""Event streams with django-eventstream, and publishing by HTTP."""

import os

import django
import redis
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

settings.configure(
    ALLOWED_HOSTS=["*"],
    EVENTSTREAM_CHANNELMANAGER_CLASS="django_app.Tokens",
    INSTALLED_APPS=["django_eventstream"],
    ROOT_URLCONF="django_app",
    SECRET_KEY="bench",  # noqa: S106
)
django.setup()

# These look at the settings when they are imported.
from django_eventstream import send_event  # noqa: E402
from django_eventstream.channelmanager import DefaultChannelManager  # noqa: E402

_pool = redis.BlockingConnectionPool.from_url(
    os.environ["REDIS_URL"], max_connections=20, timeout=None, decode_responses=True
)
_client = redis.Redis(connection_pool=_pool)


class Tokens(DefaultChannelManager):
    """Who may hear what."""

    def get_channels_for_request(self, request: HttpRequest, _: dict[str, object]) -> set[str]:
        """Return what the owner of the token may hear."""
        user = _client.get(f"token:{request.GET['access_token']}")
        return {f"room:{number}" for number in _client.smembers(f"channels:{user}")}


def publish(request: HttpRequest) -> HttpResponse:
    """Send the body to a channel."""
    send_event(request.GET["channel"], "message", request.body.decode(), json_encode=False)
    return HttpResponse()


urlpatterns = [
    path("publish", publish),
    path("", include("django_eventstream.urls")),
]
app = get_asgi_application()
