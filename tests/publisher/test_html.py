"""Messages for htmx, Turbo and Datastar: what comes out of a parser is what went in."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from sinapse.errors import InvalidEvent, InvalidMessage
from sinapse.framing.eventstream import encode
from sinapse.protocol.message import Message
from sinapse.publisher import Publisher
from sinapse.publisher.html import (
    Event,
    html_event,
    patch_elements,
    patch_signals,
    turbo_stream,
)
from sinapse.testing import capture
from tests.support.eventsource import EventSourceParser
from tests.support.modules import loaded_by

#: What means something to one of the parsers, and anything else.
PIECES = st.one_of(
    st.sampled_from(
        [
            *(
                "\r",
                "\n",
                "\r\n",
                "\n\n",
                " ",
                ":",
                "data: x",
                "event: x",
                "\x0b",
                "\x85",
                "\u2028",
            ),
            *("<p>", "</p>", "<", ">", "&", '"', "'", "&quot;", "</template>", "</turbo-stream>"),
            *("elements x", "selector #x", "mode append", "signals {}", "onlyIfMissing true"),
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)


def heard(event: Event, default: str | None = None) -> tuple[str, str]:
    """Return the event type and the data as a browser has them; `default` is a channel's name."""
    [found] = EventSourceParser().feed(encode(Message(*event, "1-1"), default))
    return found.type, found.data


def with_line_feeds(text: str) -> str:
    """Return `text` as HTML itself reads it: there is no line end but a line feed."""
    return re.sub(r"\r\n?", "\n", text)


class Attributes(HTMLParser):
    """The attributes of the first element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str, str | None] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.found is None:
            self.found = dict(attrs)


def arguments(data: str) -> dict[str, str]:
    """Return what Datastar reads in the data of a message, as its own code does it."""
    found: dict[str, list[str]] = {}
    for line in data.split("\n"):
        name, _, value = line.partition(" ")
        found.setdefault(name, []).append(value)
    return {name: "\n".join(values) for name, values in found.items()}


@given(html=TEXTS)
@settings(deadline=None)
def test_htmx_gets_the_html_whatever_it_is(html: str) -> None:
    assert heard(html_event(html, "note")) == ("note", with_line_feeds(html))
    assert heard(html_event(html, "note"), "a-channel") == ("note", with_line_feeds(html))
    assert heard(html_event(html)) == ("message", with_line_feeds(html))
    assert heard(html_event(html), "a-channel") == ("a-channel", with_line_feeds(html))


@pytest.mark.parametrize("name", ["a,b", " a", "a ", ","])
def test_what_sse_swap_takes_for_another_event_is_refused(name: str) -> None:
    with pytest.raises(InvalidEvent, match="sse-swap"):
        html_event("<p>", name)


@given(html=TEXTS.filter(bool), action=TEXTS, target=TEXTS, targets=TEXTS, method=TEXTS)
@settings(deadline=None)
def test_turbo_gets_the_html_and_attributes_that_nothing_breaks_out_of(
    html: str, action: str, target: str, targets: str, method: str
) -> None:
    kind, data = heard(turbo_stream(action, target, html, targets=targets, method=method), "a")
    assert kind == "message"
    given = {"action": action, "method": method, "target": target, "targets": targets}
    assert Attributes(data).found == {name: with_line_feeds(value) for name, value in given.items()}
    start, template, rest = data.partition("><template>")
    assert template
    assert "<" not in start[1:]
    assert rest == f"{with_line_feeds(html)}</template></turbo-stream>"


def test_a_turbo_stream() -> None:
    assert turbo_stream("append", "notes", "<li>a") == (
        '<turbo-stream action="append" target="notes"><template><li>a</template></turbo-stream>',
        "message",
    )
    assert turbo_stream("remove", "note-1").message == (
        '<turbo-stream action="remove" target="note-1"></turbo-stream>'
    )
    assert turbo_stream("refresh", method="morph").message == (
        '<turbo-stream action="refresh" method="morph"></turbo-stream>'
    )


@given(html=TEXTS.filter(bool), selector=TEXTS.filter(lambda text: not set(text) & {"\r", "\n"}))
@settings(deadline=None)
def test_datastar_gets_the_elements_and_nothing_in_them_is_an_argument(
    html: str, selector: str
) -> None:
    kind, data = heard(patch_elements(html, selector=selector, mode="append"), "a-channel")
    assert kind == "datastar-patch-elements"
    assert arguments(data) == {
        "selector": selector,
        "mode": "append",
        "elements": with_line_feeds(html),
    }
    assert arguments(heard(patch_elements(html))[1]) == {"elements": with_line_feeds(html)}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(signals=st.dictionaries(TEXTS, VALUES, max_size=3), only_if_missing=st.booleans())
@settings(deadline=None)
def test_datastar_gets_the_signals(signals: dict[str, Any], *, only_if_missing: bool) -> None:
    kind, data = heard(patch_signals(signals, only_if_missing=only_if_missing), "a-channel")
    assert kind == "datastar-patch-signals"
    found = arguments(data)
    assert json.loads(found.pop("signals")) == signals
    assert found == ({"onlyIfMissing": "true"} if only_if_missing else {})


def test_elements_are_removed_and_moved_with_a_transition() -> None:
    assert patch_elements(selector="#a", mode="remove").message == "selector #a\nmode remove"
    assert patch_elements("<p>\r\n\r<p>", view_transition=True).message == (
        "useViewTransition true\nelements <p>\nelements \nelements <p>"
    )


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_selector_has_no_line_break(end: str) -> None:
    with pytest.raises(InvalidMessage, match="line break"):
        patch_elements("<p>", selector=f"#a{end}elements <script>")


def test_what_json_cannot_carry_is_refused() -> None:
    with pytest.raises(InvalidMessage):
        patch_signals({"a": float("nan")})


JINJA = jinja2.Environment(autoescape=True).from_string("<li>{{ text }}\n</li>")


def django_template() -> Any:
    from tests.support import django_site

    django_site.set_up()
    from django.template import engines

    return engines["django"].from_string("<li>{{ text }}\n</li>")


@pytest.mark.parametrize("template", [lambda: JINJA, django_template], ids=["jinja2", "django"])
def test_templates_are_rendered_and_escape_what_people_wrote(template: Any) -> None:
    context = {"text": "<script>&"}
    rendered = "<li>&lt;script&gt;&amp;\n</li>"
    found = template()
    assert html_event(found, "note", context) == (rendered, "note")
    assert f"<template>{rendered}</template>" in turbo_stream("append", "a", found, context)[0]
    assert arguments(patch_elements(found, context).message) == {"elements": rendered}
    assert html_event(found).message == "<li>\n</li>"


class Form:
    """As Django's forms: it renders itself, by a template of its own."""

    def __html__(self) -> str:
        return "<form>"

    def render(self, template_name: str) -> str:
        raise AssertionError(template_name)


def test_what_is_html_already_is_taken_as_that() -> None:
    for html in (Markup("<form>"), Form()):
        event = html_event(html)
        assert event.message == "<form>"
        assert type(event.message) is str


@pytest.mark.parametrize(("html", "context"), [("<p>", {"a": 1}), (Markup("<p>"), {}), (1, None)])
def test_only_a_template_has_a_context(html: Any, context: Any) -> None:
    with pytest.raises(TypeError, match="no template"):
        html_event(html, None, context)


def test_they_are_what_is_published() -> None:
    with capture() as messages:
        publisher = Publisher()
        publisher.publish("notes", *html_event("<li>", "note"))
        publisher.publish_many([("notes", *patch_signals({"a": 1}))])
    assert [(each.event, each.data) for each in messages] == [
        ("note", "<li>"),
        ("datastar-patch-signals", 'signals {"a":1}'),
    ]


def test_no_library_of_theirs_is_loaded() -> None:
    loaded = loaded_by("import sinapse.publisher.html")
    assert not loaded & {"jinja2", "markupsafe", "django", "datastar_py", "twisted"}
