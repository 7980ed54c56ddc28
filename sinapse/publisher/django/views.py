"""The view that a page asks for a token.

For pages that Django does not render, and for pages whose token has ended.
"""

from typing import Any

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods
from django.views.decorators.vary import vary_on_cookie

from sinapse.errors import BrokerUnavailable, TokenIsHashed
from sinapse.publisher.django import configuration
from sinapse.publisher.django.names import named
from sinapse.publisher.page import HASHED, Connection, connection
from sinapse.publisher.shared import default_of


def connection_of(user: Any) -> Connection:
    """Return what the page of a user, or of a visitor, needs to open its stream."""
    publisher = default_of(configuration.publisher)
    subject = named(user) if user.is_authenticated else None
    return connection(configuration.read(), subject, publisher)


@require_http_methods(["GET", "POST"])
@never_cache
@vary_on_cookie
def token(request: HttpRequest) -> JsonResponse:
    """Answer with the ``url``, the ``token`` and the seconds until it ``expires_in``, as JSON.

    401 without a log-in, as scripts understand it, not the log-in page; 503 while Redis is away;
    409 where tokens are hashed.
    """
    if not request.user.is_authenticated:
        return JsonResponse({"error": "You are not logged in."}, status=401)
    try:
        return JsonResponse({**connection_of(request.user)})
    except BrokerUnavailable:
        answer = JsonResponse({"error": "Redis does not answer."}, status=503)
        answer["Retry-After"] = "5"
        return answer
    except TokenIsHashed:
        return JsonResponse({"error": HASHED}, status=409)
