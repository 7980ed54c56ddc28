"""Whether a publisher has the list of the step at which a move is; its first operation asks."""

from collections.abc import Generator, Sequence

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.names import Names
from sinapse.protocol.sharding import Shards, State
from sinapse.publisher.operations.operation import Operation, Request
from sinapse.publisher.operations.spread import Asked, Outcomes, found


class ReadMove(Operation[str]):
    """Why what moves is not where this list says."""

    __slots__ = ("_shards",)

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    def request(self, names: Names) -> Request:
        """Return the command."""
        return Request(("HMGET", names.move, "done", "keepers"))

    def result(self, answer: Sequence[bytes | None]) -> str:
        """Return it, with what to do; empty if all is where it has to be."""
        move, keepers = answer
        if move != self._shards.move.encode():
            return (
                f"does not know that all has been copied for state={self._shards.state}: run"
                " 'sinapse reshard' first, or take the state out of the list if the move is over"
            )
        if keepers is not None and keepers != self._shards.keepers.encode():
            return (
                "knows that all has been copied with a different tokens=no: that has to stay"
                f" where it was (tokens were in {keepers.decode(errors='replace')})"
            )
        return ""


class NoteUse(Operation[None]):
    """Notes that publishers look for what moves where it is going to be."""

    __slots__ = ("_move",)

    def __init__(self, shards: Shards) -> None:
        self._move = shards.move

    def request(self, names: Names) -> Request:
        """Return the command."""
        return Request(("HSET", names.move, "used", self._move))

    def result(self, answer: object) -> None:
        """Return nothing: that it was done is all."""


def checked(shards: Shards) -> Generator[Asked, Outcomes, None]:
    """Check that all is where publishers with this list look for it, and note that one does.

    It is enough that those say so that are there. Raises
    :class:`~sinapse.errors.BrokerUnavailable`.
    """
    if shards.state not in (State.JOINED, State.LEFT):
        return
    outcomes = yield {number: [ReadMove(shards)] for number in range(len(shards))}
    answers = {number: found(outcome, 0) for number, outcome in outcomes.items()}
    errors = [each for each in answers.values() if isinstance(each, BrokerUnavailable)]
    if len(errors) == len(answers):
        raise errors[0]
    for number, fault in answers.items():
        if fault and isinstance(fault, str):
            raise BrokerUnavailable(f"{shards.names[number]} {fault}", delivered=False)
    # From now on a move that is given up would lose what they change.
    yield {number: [NoteUse(shards)] for number, fault in answers.items() if fault == ""}
