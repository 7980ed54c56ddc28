"""The view that a page asks for a token.

For pages that Django does not render, and for pages whose token has ended.
"""

from typing import Any
from uuid import UUID

from django.http import HttpRequest, JsonResponse
from django.utils.cache import add_never_cache_headers, patch_vary_headers
from django.views.decorators.http import require_http_methods

from sinapse.errors import BrokerUnavailable, TokenIsHashed
from sinapse.publisher.defaults import default_of
from sinapse.publisher.django import configuration
from sinapse.publisher.django.device import device_of
from sinapse.publisher.django.names import named
from sinapse.publisher.django.position import position_of, with_position
from sinapse.publisher.frameworks import page


def connection_of(
    subject: Any, position: str | None = None, request: HttpRequest | None = None
) -> page.Connection:
    """Return what the page of a subject needs to open its stream; see :func:`token_response`."""
    names = _named(subject)
    device = None if names is None else device_of(request, names)
    publisher = default_of(configuration.publisher)
    return page.connection(configuration.read(), names, publisher, position, device)


def token_response(
    subject: Any, position: str | None = None, request: HttpRequest | None = None
) -> JsonResponse:
    """Answer with ``url``, ``token``, the seconds until it ``expires_in``, and ``position``.

    `subject` is a user, an instance of any other model, or the id of a subject that is no model,
    such as one for all visitors; None and an anonymous user have no token. `position` is for a
    page that loads its state after this answer: see
    :func:`~sinapse.publisher.django.position.with_position`. If it is the user of `request`, who
    has logged in, the token is that of the device; else the current one of the subject. 401 without
    a subject, as scripts understand it, not the log-in page; 503 while Redis is away; 409 if the
    token is none of a device, and tokens are hashed. Raises
    :class:`~sinapse.errors.InvalidSubject` for an object that is no subject.
    """
    answer = _answer(subject, position, request)
    add_never_cache_headers(answer)
    patch_vary_headers(answer, ["Cookie"])
    return answer


@require_http_methods(["GET", "POST"])
@with_position
def token(request: HttpRequest) -> JsonResponse:
    """Answer :func:`token_response` for the user who is logged in, with the position of now."""
    return token_response(request.user, position_of(request), request)


def _answer(subject: Any, position: str | None, request: HttpRequest | None) -> JsonResponse:
    try:
        content = connection_of(subject, position, request)
    except BrokerUnavailable:
        return JsonResponse(
            {"error": "Redis does not answer."}, status=503, headers={"Retry-After": "5"}
        )
    except TokenIsHashed:
        return JsonResponse({"error": page.HASHED}, status=409)
    if content["token"] is None:
        return JsonResponse({"error": "You are not logged in."}, status=401)
    return JsonResponse({**content})


def _named(subject: Any) -> page.Named | None:
    if subject is None or getattr(subject, "is_authenticated", True) is False:
        return None
    if isinstance(subject, str | int | UUID):
        return page.Named(subject)
    return named(subject)
