"""The trace of a message: what is one, and what travels of it."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.protocol.message import Message, pack, pack_retained, unpack
from sinapse.protocol.trace import MAX_STATE, Trace, parse_trace

ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{ID}-00f067aa0ba902b7-01"

traces = st.builds(
    lambda trace, span, flags, state: Trace(f"00-{trace:032x}-{span:016x}-{flags:02x}", state),
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.integers(0, 127).map(lambda bits: 2 * bits + 1),
    st.none()
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=96),
)


@given(traces)
def test_a_trace_is_what_its_fields_say(trace: Trace) -> None:
    fields = trace.fields()
    assert parse_trace(fields["traceparent"], fields.get("tracestate")) == trace


@pytest.mark.parametrize(
    "parent",
    [
        *(None, 1, b"", "", "no", PARENT.upper(), PARENT[:-1], f"{PARENT}-", f"{PARENT}\n"),
        *(f" {PARENT}", PARENT.replace("-", "_"), f"ff{PARENT[2:]}", f"01{PARENT[2:]}"),
        *(f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{ID}-{'0' * 16}-01"),
        *(f"{PARENT[:-1]}0", f"{PARENT[:-2]}fe"),
    ],
)
def test_what_is_no_trace_or_not_sampled_is_none(parent: object) -> None:
    assert parse_trace(parent) is None


@pytest.mark.parametrize("state", [None, 1, b"a=1", "", "a=é", "a=1\nb", "x" * (MAX_STATE + 1)])
def test_a_state_that_cannot_travel_is_left_out(state: object) -> None:
    assert parse_trace(PARENT, state) == Trace(PARENT)


@given(traces, st.none() | st.from_regex("[A-Za-z0-9_-]{1,64}", fullmatch=True))
def test_a_message_keeps_its_trace_beside_all_else(trace: Trace, but: str | None) -> None:
    message = Message("hello", "event", None, but, trace)
    assert unpack(pack(message)) == message
    body = pack_retained(message)
    tail = body[-1 - body[-1] : -1]
    # As the script puts it together.
    assert unpack(body[: -1 - body[-1]] + b"\xa3f-1" + tail) == message._replace(id="f-1")


def test_what_follows_the_id_fits_into_what_a_script_is_told_of() -> None:
    longest = Message("", None, None, "x" * 64, Trace(PARENT, "x" * MAX_STATE))
    body = pack_retained(longest)
    assert body[-1] <= 255
    assert set(msgpack.unpackb(body[-1 - body[-1] : -1])) == {"but", "traceparent", "tracestate"}


def test_the_exact_bytes() -> None:
    assert pack(Message("hi", trace=Trace(PARENT))) == (
        b"\x94\xc0\xa2hi\xc0\x81\xabtraceparent\xda\x00\x37" + PARENT.encode()
    )
