"""The states of runs, and the events that end them."""

from __future__ import annotations

from sinapse.protocol.runs import ENDINGS, PIECE, RunState


def test_every_state_but_that_of_what_is_running_has_an_event_of_its_own() -> None:
    assert ENDINGS.keys() == {*RunState} - {RunState.RUNNING}
    assert len({*ENDINGS.values(), PIECE}) == len(RunState)


def test_no_event_has_the_name_of_one_of_the_server() -> None:
    assert {*ENDINGS.values(), PIECE}.isdisjoint(
        {"authentication", "reset", "position", "replaced", "token-expiring"}
    )
