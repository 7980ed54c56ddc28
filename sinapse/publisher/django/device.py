"""The device that a request comes from: what Django's session keeps of it."""

from contextvars import ContextVar

from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest

from sinapse.publisher.defaults import default_of
from sinapse.publisher.django import configuration
from sinapse.publisher.django.names import named
from sinapse.publisher.frameworks.device import Device, Held, ask
from sinapse.publisher.frameworks.page import Named

#: The session with which the device of a request came, where the middleware has looked; it is taken
#: out at a log-out, so that the middleware does not end it once more.
first: ContextVar[list[Held]] = ContextVar("sinapse_first_session")


def device_of(request: HttpRequest | None, subject: Named) -> Device | None:
    """Return the device of `request`, if `subject` is the user who is logged in there.

    There is none for a request that says by something else who sends it, such as the key of an API:
    each of them would open a session.
    """
    device = any_device_of(request)
    user = getattr(request, "user", None)
    if device is None or user is None or not user.is_authenticated or named(user) != subject:
        return None
    is_logged_in = device.kept.get(SESSION_KEY) == user._meta.pk.value_to_string(user)
    return device if is_logged_in else None


def any_device_of(request: HttpRequest | None) -> Device | None:
    """Return the device of `request`, whoever uses it; None where Django has no sessions."""
    if request is None or not hasattr(request, "session"):
        return None
    return Device(request.session, request.headers.get("User-Agent"))


def first_of(subject: str) -> Held | None:
    """Return the session of `subject` with which the request came that is handled now."""
    return next((held for held in first.get([]) if held.subject == subject), None)


def end(device: Device) -> None:
    """End the session of a device; raises :class:`~sinapse.errors.BrokerUnavailable`."""
    ask(device.end(), default_of(configuration.publisher).sessions)
