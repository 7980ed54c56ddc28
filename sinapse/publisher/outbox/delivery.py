"""Rows that are sent to Redis in their order, with what became of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sinapse.errors import BrokerUnavailable, Incomplete
from sinapse.publisher.client import Publisher
from sinapse.publisher.operations.conversation import MAX_MESSAGES_PER_CALL
from sinapse.publisher.operations.messages import Publish
from sinapse.publisher.outbox.rows import Row


@dataclass
class Outcome:
    """What became of rows."""

    sent: list[int] = field(default_factory=list)
    """The ids of those that Redis has."""
    refused: dict[int, str] = field(default_factory=dict)
    """Those that can never be sent, and why."""
    held: set[str] = field(default_factory=set)
    """Channels of which a message could not be sent now: their later ones wait too."""
    error: BrokerUnavailable | None = None
    """Why, of the last one."""
    is_cut_off: bool = False
    """Whether Redis takes nothing, of no channel, for one reason: the rest was not tried."""


def deliver(publisher: Publisher, rows: Sequence[Row]) -> Outcome:
    """Publish rows, of each channel in their order and none after one that failed.

    A row that was published before, by its message id, counts as sent.
    """
    outcome = Outcome()
    due: list[tuple[Row, Publish]] = []
    for row in rows:
        try:
            due.append((row, row.operation(publisher.messages)))
        except ValueError as error:
            outcome.refused[row.id] = str(error)
    for batch in _batches(due):
        sendable = [each for each in batch if each[0].channel not in outcome.held]
        results = _published(publisher, [operation for _, operation in sendable])
        failed: dict[str, str] = {}
        for (row, _), result in zip(sendable, results, strict=True):
            if isinstance(result, BrokerUnavailable):
                failed[row.channel] = str(result)
                outcome.error = result
            else:
                outcome.sent.append(row.id)
        outcome.held |= failed.keys()
        # One channel alone may be what Redis refuses.
        is_all = failed.keys() == {row.channel for row, _ in sendable}
        if is_all and len(failed) > 1 and len({*failed.values()}) == 1:
            outcome.is_cut_off = True
            break
    return outcome


def _published(publisher: Publisher, operations: Sequence[Publish]) -> Sequence[object]:
    pipeline = publisher.pipeline()
    for operation in operations:
        pipeline.add(operation)
    try:
        return pipeline.send()
    except Incomplete as error:
        return error.results


def _batches(due: Sequence[tuple[Row, Publish]]) -> Iterator[list[tuple[Row, Publish]]]:
    """Yield parts such that one call to Redis has all that a part has of a channel.

    Of two calls the first may fail, and the second not.
    """
    batch: list[tuple[Row, Publish]] = []
    kinds: dict[str, bool] = {}
    for row, operation in due:
        is_retained = bool(operation.retain)
        # Messages that are not retained are a call each.
        is_apart = row.channel in kinds and not (is_retained and kinds[row.channel])
        if is_apart or len(batch) == MAX_MESSAGES_PER_CALL:
            yield batch
            batch, kinds = [], {}
        batch.append((row, operation))
        kinds[row.channel] = is_retained
    if batch:
        yield batch
