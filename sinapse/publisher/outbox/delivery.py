"""Rows that are sent to Redis in their order, with what became of each."""

from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from sinapse.errors import BrokerUnavailable, Incomplete
from sinapse.publisher.client import Publisher
from sinapse.publisher.operations import spans
from sinapse.publisher.operations.conversation import (
    MAX_DATA_PER_CALL,
    MAX_MESSAGES_PER_CALL,
    is_denial,
)
from sinapse.publisher.operations.messages import Publish
from sinapse.publisher.outbox.rows import Row
from sinapse.tracing.caller import within


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
    for batch in _batches(due, outcome.held):
        results = _published(publisher, batch)
        failed: dict[str, str] = {}
        for (row, _), result in zip(batch, results, strict=True):
            if isinstance(result, BrokerUnavailable):
                failed[row.channel] = str(result)
                outcome.error = result
            else:
                outcome.sent.append(row.id)
        outcome.held.update(failed)
        # One channel alone may be what Redis refuses, and some may be those that its user may not
        # use.
        is_all = failed.keys() == {row.channel for row, _ in batch}
        reasons = {*failed.values()}
        is_one = len(reasons) == 1 and not any(map(is_denial, reasons))
        if is_all and len(failed) > 1 and is_one:
            outcome.is_cut_off = True
            break
    return outcome


def _published(publisher: Publisher, batch: Sequence[tuple[Row, Publish]]) -> Sequence[object]:
    pipeline = publisher.pipeline()
    with ExitStack() as stack:
        # Each is in the trace of its own transaction, and in none of who sends it.
        stack.enter_context(within(None, None))
        sendings = [spans.resumed(operation, row.trace) for row, operation in batch]
        for sending, (_, operation) in zip(sendings, batch, strict=True):
            if sending is not None:
                stack.enter_context(sending)
            pipeline.add(operation)
        try:
            results = pipeline.send()
        except Incomplete as error:
            results = [*error.results]
        for sending, result in zip(sendings, results, strict=True):
            if sending is not None:
                sending.ended([result])
    return results


def _batches(
    due: Iterable[tuple[Row, Publish]], held: Container[str]
) -> Iterator[list[tuple[Row, Publish]]]:
    """Yield parts such that one call to Redis has all that a part has of a channel.

    Of two calls the first may fail, and the second not. Channels that are `held` by then are left
    out.
    """
    batch: list[tuple[Row, Publish]] = []
    calls: dict[str, int] = {}
    call = data = 0
    for row, operation in due:
        if row.channel in held:
            continue
        # Retained messages that follow each other are a call, as far as it goes.
        is_joined = operation.retain and batch and batch[-1][1].retain
        if not is_joined or data > MAX_DATA_PER_CALL:
            call, data = call + 1, 0
        if calls.get(row.channel, call) != call or len(batch) == MAX_MESSAGES_PER_CALL:
            yield batch
            batch, calls, data = [], {}, 0
            if row.channel in held:
                continue
        batch.append((row, operation))
        calls[row.channel] = call
        data += len(operation.message.data)
    if batch:
        yield batch
