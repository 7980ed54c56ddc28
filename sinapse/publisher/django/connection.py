"""What a page needs to open its stream: the URL of the daemon, and the user's token."""

from typing import Any

from sinapse.publisher.django import configuration
from sinapse.publisher.django.names import subject


def connection_of(user: Any) -> dict[str, Any]:
    """Return ``url``, ``token`` and ``expires_in`` for a user, the last two None for a visitor.

    The token lives on for ``TOKEN_LIFETIME`` seconds at least: pages share it, and the ones that
    are open keep it. Raises :class:`~sinapse.errors.BrokerUnavailable`.
    """
    options = configuration.read()
    if not user.is_authenticated:
        return {"url": options.url, "token": None, "expires_in": None}
    token = subject(user).auth.obtain(expires_in=options.token_lifetime)
    return {"url": options.url, "token": token, "expires_in": options.token_lifetime}
