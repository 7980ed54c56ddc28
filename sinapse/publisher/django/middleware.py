"""The middleware: it knows with which session of ours the device of a request came.

After those of Django, add::

    MIDDLEWARE = [..., "sinapse.publisher.django.middleware.DeviceMiddleware"]

Then the device on which a user changes the password keeps its session, as it keeps that of Django;
and it ends when somebody else logs in there, where Django forgets what it has kept, and tells
nobody before.
"""

from functools import partial

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from sinapse.publisher.defaults import default_of
from sinapse.publisher.django import configuration
from sinapse.publisher.django.device import any_device_of, first
from sinapse.publisher.django.revocation import attempt

#: Methods by which nobody logs in, nor changes a password (RFC 9110 §9.2.1). Not to look at the
#: session spares them a query, and lets caches keep their answers.
_SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")


class DeviceMiddleware(MiddlewareMixin):
    """For ``settings.MIDDLEWARE``, after ``SessionMiddleware``."""

    def process_request(self, request: HttpRequest) -> None:
        """Look with which session the device comes; raises ``ImproperlyConfigured``."""
        device = any_device_of(request)
        if device is None:
            raise ImproperlyConfigured("DeviceMiddleware comes after SessionMiddleware")
        held = None if request.method in _SAFE else device.held
        first.set([] if held is None else [held])

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        """End the session that the device has no longer."""
        came_with, device = first.get([]), any_device_of(request)
        first.set([])
        for held in came_with:
            if device is None or device.held != held:
                sessions = default_of(configuration.publisher).sessions
                attempt(partial(sessions.end, held.subject, held.id), "session of a former user")
        return response
