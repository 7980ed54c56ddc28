"""When a stream comes back, and why it ends."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.errors import StreamEnded
from sinapse.listening.course import (
    JITTER,
    LONGEST_PAUSE,
    LONGEST_WISH,
    RETRY_TIME,
    SHORTEST_PAUSE,
    Course,
)

URL = "https://push.example/"
TOKEN = "the-token"
OPENING = b"retry: 2000\nid: 1f-7\nevent: authentication\ndata: ok\n\n"


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def least(low: float, _high: float) -> float:
    """Take the least of what chance may bring."""
    return low


def course(clock: Clock | None = None, last_event_id: str | None = None) -> Course:
    return Course(URL, TOKEN, last_event_id, max_message=1000, clock=clock or Clock(), jitter=least)


def read(course: Course, *pieces: bytes) -> list[str | None]:
    """Begin a connection, and return the types of the events that come on it."""
    course.begin()
    return [message.event for piece in pieces for message in course.read(piece)]


class TestRequest:
    def test_the_token_and_the_id_are_in_header_fields(self) -> None:
        fields = course(last_event_id="1f-7").begin()
        assert fields[b"Authorization"] == b"Bearer the-token"
        assert fields[b"Last-Event-ID"] == b"1f-7"
        assert b"Last-Event-ID" not in course().begin()
        assert b"Last-Event-ID" not in course(last_event_id="").begin()

    def test_it_resumes_after_what_was_handed_out(self) -> None:
        it = course()
        read(it, OPENING)
        assert it.last_event_id == "1f-7"
        assert read(it, b"id: 1f-8\ndata: a\n\nid: 1f-9\ndata: b\n") == [None]
        assert it.begin()[b"Last-Event-ID"] == b"1f-8"

    @pytest.mark.parametrize("identifier", ["a\x01b", " a", "\u2603", "a b"])
    def test_an_id_that_no_field_can_have_is_not_sent(self, identifier: str) -> None:
        it = course()
        read(it, f"id: {' ' if identifier[0] == ' ' else ''}{identifier}\ndata: a\n\n".encode())
        fields = it.begin()
        sent = fields.get(b"Last-Event-ID")
        assert sent == (identifier.encode() if identifier in ("\u2603", "a b") else None)

    @pytest.mark.parametrize(
        "url",
        ["ftp://push.example/", "push.example", "http://", "http://x:y/", "http://a b/", "", "/x"],
    )
    def test_what_is_no_url_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match="is no URL"):
            Course(url, TOKEN, None, max_message=1)

    @pytest.mark.parametrize(
        "url", ["http://x/?access_token=secret", "http://u:secret@x/", "http://secret@x/"]
    )
    def test_a_url_with_a_secret_is_refused_and_not_quoted(self, url: str) -> None:
        with pytest.raises(ValueError, match="must not have a token") as caught:
            Course(url, TOKEN, None, max_message=1)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("token", ["", "a b", "secret\r\nX: y", "secret\u2603", "secret\0"])
    def test_what_is_no_token_is_refused_and_not_quoted(self, token: str) -> None:
        with pytest.raises(ValueError, match="token must be") as caught:
            Course(URL, token, None, max_message=1)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("identifier", ["a\nb", "\0", " a"])
    def test_what_is_no_id_is_refused(self, identifier: str) -> None:
        with pytest.raises(ValueError, match="last_event_id is none"):
            Course(URL, TOKEN, identifier, max_message=1)


class TestMessages:
    def test_the_first_event_is_the_servers_own_and_none_that_is_called_so(self) -> None:
        it = course()
        for _ in range(2):
            it.begin()
            first, second = it.read(OPENING + b"event: authentication\ndata: x\n\n")
            assert (first.by, second.by) == ("server", None)

    def test_it_ends_where_a_newer_stream_has_its_place(self) -> None:
        it = course()
        it.begin()
        messages = it.read(OPENING + b"by: server\nevent: replaced\ndata: x\n\n")
        assert next(messages).event == "authentication"
        with pytest.raises(StreamEnded) as caught:
            next(messages)
        assert caught.value.reason == "replaced by a newer stream"
        assert caught.value.status is None
        assert caught.value.last_event_id == "1f-7"
        assert read(course(), OPENING, b"event: replaced\ndata: x\n\n")[1] == "replaced"

    def test_it_ends_with_what_is_too_long(self) -> None:
        it = course()
        with pytest.raises(StreamEnded, match="more than 1000 characters"):
            read(it, OPENING, b"id: 1f-8\ndata: " + b"x" * 1001)
        assert it.last_event_id == "1f-7"


class TestPause:
    def test_it_is_what_the_server_says(self) -> None:
        it = course()
        assert it.pause() == RETRY_TIME
        read(it, OPENING)
        assert it.pause() == 2

    def test_it_is_doubled_up_to_a_bound_until_something_comes(self) -> None:
        it = course()
        read(it, OPENING)
        assert [it.pause() for _ in range(6)] == [2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE]
        assert all(it.pause() == LONGEST_PAUSE for _ in range(1000))
        read(it, b"retry: 100\nby: server\nevent: position\ndata: ok\n\n")
        assert it.pause() == 0.1

    @given(milliseconds=st.integers(0), failures=st.integers(0, 30))
    def test_it_has_bounds_whatever_the_server_says(self, milliseconds: int, failures: int) -> None:
        it = Course(URL, TOKEN, None, max_message=1000)
        read(it, b"retry: %d\n" % min(milliseconds, 10**900), b"data: x\n\n")
        told = min(max(milliseconds / 1000 if milliseconds < 10**300 else 1e300, 0), LONGEST_WISH)
        pauses = [it.pause() for _ in range(failures + 1)]
        assert all(
            max(SHORTEST_PAUSE, told) <= each <= JITTER * max(told, LONGEST_PAUSE)
            for each in pauses
        )

    def test_it_is_at_random(self) -> None:
        it = Course(URL, TOKEN, None, max_message=1000)
        assert len({it.pause() for _ in range(20)}) > 10

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
    def test_a_passing_trouble_passes_and_the_server_may_say_when(self, status: int) -> None:
        it = course()
        read(it, OPENING)
        it.begin()
        it.refused(status, {"Retry-After": "77"}, b"")
        assert it.pause() == 77
        it.begin()
        it.refused(status, {}, b"")
        assert it.pause() == 4

    def test_it_may_be_a_date(self) -> None:
        it = course()
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
        it.begin()
        it.refused(503, {"Retry-After": date}, b"")
        assert 50 < it.pause() <= 100
        for field in ("soon", "-1", "1e5", "Mon, 99 Foo 2020"):
            it.refused(503, {"Retry-After": field}, b"")

    def test_nobody_waits_for_days(self) -> None:
        it = course()
        it.begin()
        it.refused(503, {"Retry-After": "9" * 400}, b"")
        assert it.pause() == LONGEST_WISH


class TestEnd:
    @pytest.mark.parametrize(
        ("status", "body", "reason"),
        [
            (401, b"401 unknown token\n", "unknown token"),
            (401, b"401 no channels\n", "no channels"),
            (401, b"<html>", "unknown token"),
            (204, b"", "unknown token"),
            (400, b"400 access_token is missing\n", "access_token is missing"),
            (403, b"", "Forbidden"),
            (404, b"<html>404 Not Found", "Not Found"),
            (404, b"404 \x1b[2J\xff\n", "\\x1b[2J\ufffd"),
            (299, b"", "without a word"),
        ],
    )
    def test_an_answer_says_why(self, status: int, body: bytes, reason: str) -> None:
        it = course(last_event_id="1f-7")
        it.begin()
        with pytest.raises(StreamEnded) as caught:
            it.refused(status, {}, body)
        assert (caught.value.reason, caught.value.status) == (reason, status)
        assert str(caught.value) == f"{URL} answers {status} {reason}"
        assert caught.value.last_event_id == "1f-7"

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_not_followed(self, status: int) -> None:
        it = course()
        it.begin()
        with pytest.raises(
            StreamEnded, match=f"answers {status} and leads to http://y/; ask there"
        ):
            it.refused(status, {"Location": "http://y/"}, b"")

    def test_what_is_no_event_stream_is_none(self) -> None:
        it = course()
        it.begin()
        assert it.is_stream(200, {"Content-Type": "Text/Event-Stream; charset=utf-8"})
        assert not it.is_stream(200, {"Content-Type": "text/html"})
        assert not it.is_stream(204, {"Content-Type": "text/event-stream"})
        with pytest.raises(StreamEnded, match="with text/html, which is no event stream"):
            it.refused(200, {"Content-Type": "text/html"}, b"")

    @pytest.mark.parametrize(
        ("left", "passed", "renewed", "reason"),
        [
            (None, 10, False, "token revoked"),
            (b"20", 20, False, "token expired"),
            (b"20", 19.5, False, "token expired"),
            (b"20", 10, False, "token revoked"),
            (b"20", 30, True, "token revoked"),
        ],
    )
    def test_a_token_that_was_good_was_revoked_or_has_expired(
        self, left: bytes | None, passed: float, renewed: bool, reason: str
    ) -> None:
        clock = Clock()
        it = course(clock)
        read(it, OPENING)
        if left is not None:
            list(it.read(b"by: server\nevent: token-expiring\ndata: %b\n\n" % left))
        clock.now += passed
        if renewed:
            list(it.read(b":\n\n"))
        it.pause()
        clock.now += 100  # Until it is asked, it makes no difference.
        it.begin()
        it.lost("refused")
        it.pause()
        it.begin()
        with pytest.raises(StreamEnded) as caught:
            it.refused(401, {}, b"401 unknown token\n")
        assert caught.value.reason == reason

    def test_the_last_channel_is_told_from_that(self) -> None:
        it = course()
        read(it, OPENING)
        it.begin()
        with pytest.raises(StreamEnded) as caught:
            it.refused(401, {}, b"401 no channels\n")
        assert caught.value.reason == "no channels"

    def test_who_waits_for_it_to_open_is_told_why_it_does_not(self) -> None:
        it = course()
        it.opening = True
        it.begin()
        with pytest.raises(ConnectionError, match="refused"):
            it.lost("refused")
        with pytest.raises(ConnectionError, match="answers 502 Bad Gateway"):
            it.refused(502, {}, b"")
        it.refused(503, {"Retry-After": "1"}, b"")  # The server says that it will open.
        list(it.read(OPENING))
        it.lost("refused")

    def test_a_certificate_ends_what_was_never_open(self) -> None:
        it = course()
        it.begin()
        with pytest.raises(StreamEnded, match="self-signed"):
            it.lost("self-signed", is_final=True)
        read(it, OPENING)
        it.lost("self-signed", is_final=True)


def test_the_log_says_what_lasts_louder(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    it = course()
    read(it, OPENING)
    for _ in range(3):
        it.lost("refused")
        it.pause()
        it.begin()
    levels = [record.levelname for record in caplog.records if "refused" in record.message]
    assert levels == ["INFO", "WARNING", "INFO"]
    assert TOKEN not in caplog.text
