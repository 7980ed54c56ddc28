"""What a client sends, in parts: by a clock that the test turns."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport

from sinapse.web.intake import PART_SIZE, Intake
from sinapse.web.limits import FRAMES_PER_SECOND
from tests.support import Turns


class Ear:
    """Hears what comes in, of which each part is worth so many frames."""

    def __init__(self, worth: float = 0) -> None:
        self.clock = Turns()
        self.transport: Any = StringTransport()
        self.parts: list[bytes] = []
        self.worth = worth
        self.intake = Intake(self.transport, self.hear, self.clock)

    def hear(self, part: bytes) -> None:
        self.parts.append(part)
        self.intake.charge(self.worth)

    @property
    def is_read(self) -> bool:
        state: str = self.transport.producerState
        return state == "producing"


@given(st.lists(st.binary(max_size=3 * PART_SIZE), max_size=5))
def test_what_has_come_is_handled_whole_and_in_order(pieces: list[bytes]) -> None:
    ear = Ear()
    for piece in pieces:
        ear.intake.take(piece)
    while ear.clock.calls:
        ear.clock.turn()
    assert b"".join(ear.parts) == b"".join(pieces)
    assert ear.is_read


def test_a_part_is_handled_in_a_turn_and_nothing_is_read_meanwhile() -> None:
    ear = Ear()
    ear.intake.take(b"x" * 3 * PART_SIZE)
    for count in (1, 2):
        assert len(ear.parts) == count
        assert not ear.is_read
        ear.clock.turn()
    assert len(ear.parts) == 3
    assert ear.is_read


def test_frames_are_handled_no_faster_than_they_may_come() -> None:
    ear = Ear(worth=FRAMES_PER_SECOND / 10)
    ear.intake.take(b"x" * 30 * PART_SIZE)
    for _ in range(30):
        ear.clock.turn()
    assert len(ear.parts) == 10
    ear.clock.pump([0.01] * 100)
    assert 19 <= len(ear.parts) <= 21
    assert not ear.is_read
    ear.clock.pump([0.01] * 110)
    assert len(ear.parts) == 30
    assert ear.is_read


def test_what_is_held_is_handled_when_it_goes_on() -> None:
    ear = Ear()
    ear.intake.take(b"x" * 2 * PART_SIZE)
    ear.intake.hold()
    ear.clock.advance(1)
    assert len(ear.parts) == 1
    ear.intake.go_on()
    assert len(ear.parts) == 2
    assert ear.is_read


def test_when_it_is_stopped_nothing_more_is_handled_or_kept() -> None:
    ear = Ear()
    ear.intake.take(b"x" * 2 * PART_SIZE)
    ear.intake.stop()
    assert ear.clock.calls == []
    ear.intake.take(b"x")
    ear.intake.go_on()
    assert len(ear.parts) == 1
    assert ear.intake._unread == b""
