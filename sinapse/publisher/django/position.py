"""The position of a page: taken before its view runs, and so before the queries of the view.

Taken at the end, where a page is rendered, it would come after the queries: what was published
between the two would be neither in the state of the page nor on its stream.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest

from sinapse.publisher.defaults import default_of
from sinapse.publisher.django import configuration
from sinapse.publisher.frameworks import page

V = TypeVar("V", bound=Callable[..., Any])


def with_position(view: V) -> V:
    """Return `view`, before which the position of its page is taken.

    ``{% sinapse_connection %}`` carries it, and the page connects with it as last event ID: so what
    is published after the queries of the view, and before the stream opens, is not missing. It is
    the outermost decorator: what others read, such as the user, may begin the snapshot of a
    transaction. `view` may be a coroutine function. While Redis is away, the page is shown, and is
    told ``reset`` when its stream opens.
    """
    if iscoroutinefunction(view):

        @wraps(view)
        async def wait_for_view(request: HttpRequest, *values: Any, **options: Any) -> Any:
            # Connections are shared by threads: it need not be that of the database.
            await sync_to_async(_take, thread_sensitive=False)(request)
            return await view(request, *values, **options)

        return cast(V, wait_for_view)

    @wraps(view)
    def call_view(request: HttpRequest, *values: Any, **options: Any) -> Any:
        _take(request)
        return view(request, *values, **options)

    return cast(V, call_view)


class PositionMixin:
    """For a view that is a class: as :func:`with_position`, wherever among its bases it stands."""

    @classmethod
    def as_view(cls, **options: Any) -> Callable[..., Any]:
        """Return the view, with the position taken before it."""
        view: Callable[..., Any] = super().as_view(**options)  # type: ignore[misc]  # Of View.
        return with_position(view)


def position_of(request: HttpRequest | None) -> str | None:
    """Return the position that was taken for `request`; None if none was."""
    return getattr(request, "sinapse_position", None)


def _take(request: HttpRequest) -> None:
    if position_of(request) is None:  # The first one is the right one.
        taken = page.position(default_of(configuration.publisher))
        request.sinapse_position = taken  # type: ignore[attr-defined]  # It is ours.
