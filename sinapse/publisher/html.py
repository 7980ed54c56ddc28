"""Messages for pages that get HTML: by htmx, Turbo or Datastar.

Each function returns the two arguments that every ``publish`` begins with after the channel::

    from sinapse.publisher.html import html_event, patch_elements, turbo_stream

    publisher.publish("notes", *html_event("<li>Hello", "note"))
    room.publish(*turbo_stream("append", "notes", template, {"note": note}))
    await push.publish("notes", *patch_elements(html, selector="#notes", mode="append"))

Where `html` is asked for, it may be text, an object with ``__html__`` or, followed by its context,
a template of Jinja2 or of Django's ``get_template``. It is sent as it is: who made it has escaped
what people wrote, as templates for HTML do. All other arguments are escaped where it is needed.

None of these libraries is needed to run this.
"""

import re
from collections.abc import Mapping
from html import escape
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from sinapse.errors import InvalidEvent, InvalidMessage
from sinapse.protocol.keys import plain
from sinapse.publisher.operations.content import as_json

__all__ = ["Event", "html_event", "patch_elements", "patch_signals", "turbo_stream"]

#: What ends a line in an event stream, and nothing else: HTML has other line breaks inside of text.
_LINE_END = re.compile(r"\r\n|\r|\n")

#: How Datastar puts elements into a page.
Mode: TypeAlias = Literal[
    "outer", "inner", "remove", "replace", "prepend", "append", "before", "after"
]


@runtime_checkable
class Markup(Protocol):
    """An object that is HTML: of markupsafe, Django's forms, htpy, and others."""

    def __html__(self) -> str:
        """Return the HTML."""


@runtime_checkable
class Template(Protocol):
    """What Jinja2's templates, and those of Django's ``get_template``, have in common."""

    def render(self, context: Any, /) -> str:
        """Return the HTML."""


HTML: TypeAlias = str | Markup | Template
Context: TypeAlias = Mapping[str, Any]


class Event(NamedTuple):
    """The data of a message, and its event type: ``publish(channel, *event)``."""

    message: str
    event: str | None


def html_event(html: HTML, event: str | None = None, context: Context | None = None) -> Event:
    """Return `html` for htmx: ``sse-swap`` names the `event`.

    Without one the event type is ``message``, or with ``--channel-event`` the channel's name.
    htmx 4 puts only messages without an event type into the page. Raises
    :class:`~sinapse.errors.InvalidEvent` for a name that ``sse-swap`` cannot have, which is a list
    with commas.
    """
    if event is not None and ("," in event or event != event.strip()):
        raise InvalidEvent(f"event type {event[:80]!r}: sse-swap takes it for another one")
    return Event(_text(html, context), event)


def turbo_stream(
    action: str,
    target: str | None = None,
    html: HTML = "",
    context: Context | None = None,
    *,
    targets: str | None = None,
    method: str | None = None,
) -> Event:
    """Return a ``<turbo-stream>`` for ``<turbo-stream-source>``.

    `action` is what Turbo does with `html`: ``append``, ``replace``, ``remove``, ``refresh`` or
    another one. `target` is the id of an element, `targets` a selector in the place of it, and
    `method` may be ``morph``. The event type is ``message``, the only one that Turbo listens to,
    also with ``--channel-event``.
    """
    given = {"action": action, "method": method, "target": target, "targets": targets}
    attributes = "".join(
        f' {name}="{escape(value)}"' for name, value in given.items() if value is not None
    )
    content = f"<template>{text}</template>" if (text := _text(html, context)) else ""
    return Event(f"<turbo-stream{attributes}>{content}</turbo-stream>", "message")


def patch_elements(
    html: HTML = "",
    context: Context | None = None,
    *,
    selector: str | None = None,
    mode: Mode = "outer",
    view_transition: bool = False,
) -> Event:
    """Return elements for Datastar, which puts them in the place of those with the same ids.

    Or by another `mode` where `selector` is. Raises :class:`~sinapse.errors.InvalidMessage` for a
    selector with a line break.
    """
    lines = [] if selector is None else [f"selector {_one_line(selector)}"]
    if mode != "outer":
        lines.append(f"mode {_one_line(mode)}")
    if view_transition:
        lines.append("useViewTransition true")
    if text := _text(html, context):
        lines += [f"elements {line}" for line in _LINE_END.split(text)]
    return Event("\n".join(lines), "datastar-patch-elements")


def patch_signals(signals: Mapping[str, Any], *, only_if_missing: bool = False) -> Event:
    """Return values of signals for Datastar, as JSON; None removes a signal.

    Raises :class:`~sinapse.errors.InvalidMessage` for what JSON cannot carry.
    """
    lines = ["onlyIfMissing true"] if only_if_missing else []
    return Event("\n".join([*lines, f"signals {as_json(signals)}"]), "datastar-patch-signals")


def _text(html: HTML, context: Context | None) -> str:
    if context is None and isinstance(html, str):
        return plain(html)
    if context is None and isinstance(html, Markup):
        return plain(html.__html__())
    if isinstance(html, Template):
        return plain(html.render(dict(context or {})))
    raise TypeError(f"a {type(html).__name__} is no template, which a context is for")


def _one_line(text: str) -> str:
    if _LINE_END.search(text):
        raise InvalidMessage(f"{text[:80]!r} has a line break")
    return text
