"""Operations while a Redis joins the others, or leaves them.

A channel that moves has two places. Each publisher changes a right where it publishes itself, and
then makes it the same in the other place: it reads the right, writes it there, and reads it again,
until that has not changed between. So whoever writes last has seen what is true, and both places
are the same when the call returns; and no message, in whichever place it is published, is heard
after a removal has returned.

What concerns all Redis is done last where rights are copied to: so a copy that was read before is
either seen to be old, or removed.

What is done once, by an id, is decided in one place, that of before: see
:mod:`sinapse.publisher.operations.sent`.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeAlias

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.sharding import Shards, State
from sinapse.publisher.operations.operation import Entry, Operation
from sinapse.publisher.operations.spread import Asked, Asking, Outcomes, Spread, found

#: How often a right is written again that others change at the same time, before that is an error.
MAX_ROUNDS = 100

#: A right, and its places: where it is right, and where it has to be the same.
Rights: TypeAlias = Mapping[Entry, tuple[int, int]]

#: Why a right is not the same in both places, or what its other place has refused it for.
Failures: TypeAlias = dict[Entry, Exception]


def carry_while_moving(operations: Sequence[Operation[Any]], shards: Shards) -> Asking:
    """Carry operations out as :func:`~sinapse.publisher.operations.spread.carry` does."""
    operations = list(operations)
    others = [operation.other(shards) for operation in operations]
    known = yield from _guarded(operations, others, shards)
    left = [at for at in range(len(operations)) if at not in known]
    results: list[Any] = [known.get(at) for at in range(len(operations))]
    if left:
        for at, result in zip(
            left, (yield from _carry([operations[at] for at in left], shards)), strict=True
        ):
            results[at] = result
    helped = yield from _carried_elsewhere(operations, others, results, shards)
    for at, result in helped.items():
        results[at] = result
    yield from _ask_elsewhere(operations, others, results)
    rights: dict[Entry, tuple[int, int]] = {}
    changed: dict[Entry, list[int]] = {}
    for at, (operation, other) in enumerate(zip(operations, others, strict=True)):
        place = operation.place(shards)
        if isinstance(results[at], Exception) or other is None or place is None:
            continue
        for entry in operation.entries:
            changed.setdefault(entry, []).append(at)
            if at in known or at in helped:  # The other place was the one that changed.
                rights.setdefault(entry, (other, place))
            else:
                rights[entry] = place, other
    yield from _find_left(operations, results, shards, rights, changed)
    for entry, error in (yield from mirror(rights)).items():
        for at in changed[entry]:
            results[at] = error
    return results


def mirror(rights: Rights) -> Generator[Asked, Outcomes, Failures]:
    """Make rights the same in their other places; return those for which that has failed."""
    failures: Failures = {}
    states, missing = yield from _read(rights)
    failures |= missing
    for _ in range(MAX_ROUNDS):
        if not states:
            return failures
        asked: dict[int, list[Operation[Any]]] = {}
        for entry, state in states.items():
            asked.setdefault(rights[entry][1], []).append(entry.write(state))
        written = _in_order(states, rights, 1, (yield asked))
        for entry, result in written.items():
            if isinstance(result, Exception):
                failures[entry] = _half(result)
        again, missing = yield from _read({entry: rights[entry] for entry in states})
        failures |= missing
        states = {
            entry: state
            for entry, state in again.items()
            if state != states[entry] and entry not in failures
        }
    text = "others change the same right again and again"
    return failures | {entry: BrokerUnavailable(text, delivered=None) for entry in states}


def _carry(operations: Sequence[Operation[Any]], shards: Shards) -> Asking:
    spread = Spread(operations, shards)
    is_first = (
        (lambda number: number not in shards.moving)
        if shards.state is not None and shards.state.is_out
        else (lambda number: number in shards.moving)
    )
    outcomes: dict[int, list[Any] | BrokerUnavailable] = {}
    for turn in (True, False):
        asked = {number: part for number, part in spread.parts.items() if is_first(number) is turn}
        if asked:
            outcomes |= yield asked
    if announcements := spread.announcements():
        yield announcements
    return spread.gather(outcomes)


def _guarded(
    operations: Sequence[Operation[Any]], others: Sequence[int | None], shards: Shards
) -> Generator[Asked, Outcomes, dict[int, Any]]:
    """Return the results of operations that were carried out where their channels were."""
    if shards.state not in (State.JOINED, State.LEFT):
        return {}
    guards = {
        at: (other, guard)
        for at, (operation, other) in enumerate(zip(operations, others, strict=True))
        if other is not None and (guard := operation.guard) is not None
    }
    results = yield from _ask(guards)
    return {at: result for at, result in results.items() if result is not None}


def _carried_elsewhere(
    operations: Sequence[Operation[Any]],
    others: Sequence[int | None],
    results: Sequence[Any],
    shards: Shards,
) -> Generator[Asked, Outcomes, dict[int, Any]]:
    """Carry out in the new place what the place of before leaves to that; return the results."""
    if shards.state in (State.JOINED, State.LEFT):
        return {}
    helped = {
        at: (other, operation)
        for at, (operation, other) in enumerate(zip(operations, others, strict=True))
        if other is not None and operation.is_claimed(results[at])
    }
    return (yield from _ask(helped))


def _ask_elsewhere(
    operations: Sequence[Operation[Any]], others: Sequence[int | None], results: list[Any]
) -> Generator[Asked, Outcomes, None]:
    """Bring results up to date by what the other place knows."""
    questions = {
        at: (other, also)
        for at, (operation, other) in enumerate(zip(operations, others, strict=True))
        if other is not None
        and not isinstance(results[at], BrokerUnavailable)
        and (also := operation.elsewhere(other)) is not None
    }
    for at, result in (yield from _ask(questions)).items():
        if not isinstance(result, BrokerUnavailable):
            results[at] = operations[at].joined(results[at], result)
        else:  # Something may have changed already.
            results[at] = _half(result) if operations[at].entries else result


def _find_left(
    operations: Sequence[Operation[Any]],
    results: list[Any],
    shards: Shards,
    rights: dict[Entry, tuple[int, int]],
    changed: dict[Entry, list[int]],
) -> Generator[Asked, Outcomes, None]:
    """Add to `rights` what stands in a list that was emptied: somebody adds to it at once.

    It may have been added before one of its places was emptied, and after the other one was.
    """
    asked = {
        at: left
        for at, operation in enumerate(operations)
        if (left := operation.left) is not None and not isinstance(results[at], Exception)
    }
    if not asked:
        return
    outcomes = yield {number: list(asked.values()) for number in range(len(shards))}
    for number, outcome in outcomes.items():
        for index, at in enumerate(asked):
            left = found(outcome, index)
            if isinstance(left, Exception):
                results[at] = _half(left)
                continue
            for channel, entry in left.items():
                place, other = shards.of(channel.encode()), shards.other(channel.encode())
                if other is not None and number in (place, other):
                    rights[entry] = place, other
                    changed.setdefault(entry, []).append(at)


def _ask(
    questions: Mapping[int, tuple[int, Operation[Any]]],
) -> Generator[Asked, Outcomes, dict[int, Any]]:
    """Return the results of `questions`, each with the place that is asked."""
    if not questions:
        return {}
    asked: dict[int, list[Operation[Any]]] = {}
    places: dict[int, tuple[int, int]] = {}
    for at, (place, question) in questions.items():
        part = asked.setdefault(place, [])
        places[at] = place, len(part)
        part.append(question)
    outcomes = yield asked
    return {at: found(outcomes[place], number) for at, (place, number) in places.items()}


def _read(
    rights: Rights,
) -> Generator[Asked, Outcomes, tuple[dict[Entry, Any], Failures]]:
    """Read rights in the places where they are right."""
    if not rights:
        return {}, {}
    asked: dict[int, list[Operation[Any]]] = {}
    for entry, (place, _) in rights.items():
        asked.setdefault(place, []).append(entry.read())
    states = _in_order(rights, rights, 0, (yield asked))
    failures = {
        entry: _half(state) for entry, state in states.items() if isinstance(state, Exception)
    }
    return {entry: state for entry, state in states.items() if entry not in failures}, failures


def _in_order(
    entries: Mapping[Entry, Any], rights: Rights, which: int, outcomes: Outcomes
) -> dict[Entry, Any]:
    """Return the result for each entry, of those that were asked in this order."""
    counts: dict[int, int] = {}
    results = {}
    for entry in entries:
        place = rights[entry][which]
        at = counts.get(place, 0)
        counts[place] = at + 1
        results[entry] = found(outcomes[place], at)
    return results


def _half(error: Exception) -> Exception:
    """Return the error of what was done in one place, and perhaps not in the other."""
    if isinstance(error, BrokerUnavailable):
        return BrokerUnavailable(str(error), delivered=None)
    return error
