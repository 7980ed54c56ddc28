"""What every kind of run has in common: what it is called, and what becomes of it at the end."""

import secrets
from collections.abc import Callable
from typing import Any

from sinapse.errors import InvalidMessage, RunLost, RunOver, RunStopped, SinapseError
from sinapse.protocol.keys import plain, run_channel
from sinapse.protocol.runs import LEASE, RunState
from sinapse.publisher.operations.channels import AddChannel
from sinapse.publisher.operations.identity import SubjectId, given_id
from sinapse.publisher.operations.operation import Operation
from sinapse.publisher.operations.retention import milliseconds
from sinapse.publisher.operations.runs import BeginRun, run_name
from sinapse.publisher.runs.buffer import Buffer
from sinapse.publisher.runs.courier import Courier

#: Seconds for which a piece is kept: for somebody who comes back after a meeting.
RUN_RETAIN = 3600.0

#: The text of ``error`` if the application has none of its own.
ERROR_TEXT = "This has failed."

#: Bytes of randomness of an id.
_ID_BYTES = 16


class Block:
    """A run: its names, its pieces on their way, and how it ends."""

    def __init__(
        self, subject: SubjectId, name: str, retain: float, error_text: str, most: int
    ) -> None:
        #: Its id, which nobody can guess.
        self.id: str = secrets.token_urlsafe(_ID_BYTES)
        #: What the application calls it: pages get it with every message.
        self.name: str = run_name(name)
        #: The id of whom it is for.
        self.subject: str = given_id(subject)
        #: The channel of its messages.
        self.channel: str = run_channel(self.id)
        self._retain = milliseconds(retain)
        if not self._retain:
            raise ValueError("retain is seconds, more than 0 for a run")
        self._buffer = Buffer(self.id, self.name, most)
        self._error = self._buffer.error(checked_text(error_text))
        self._has_begun = False
        self._courier: Courier

    @property
    def stopped(self) -> bool:
        """Whether somebody has stopped it, as is known here within a second."""
        return self._buffer.state is RunState.STOPPED

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self._buffer.state}>"

    def _beginning(self) -> list[Operation[Any]]:
        """Return what is to be done first, together."""
        if self._has_begun:
            raise RunOver("a run begins once: make another one")
        self._has_begun = True
        grant = AddChannel(self.subject, self.channel, (self._retain + 3 * LEASE) / 1000)
        begin = BeginRun(self.id, self.name, self.subject, self._buffer.about, self._retain)
        return [grant, begin]

    def _may_have_begun(self, error: BaseException) -> bool:
        """Whether Redis may have begun it though `error` was raised."""
        return getattr(error, "delivered", None) is not False

    def _check(self) -> None:
        """Raise why nothing can be sent, if that is so."""
        if not self._has_begun:
            raise RunOver("the run has not begun: use it in a with block")
        outcome = self._buffer.outcome
        if outcome is not None:
            raise outcome.with_traceback(None)

    # Attempts, to be made again after each change, until they return True.

    def _putting(self, piece: object) -> Callable[[], bool]:
        """Return the attempt to send `piece`."""
        self._check()
        buffer = self._buffer
        text, size = buffer.written(piece)

        def put() -> bool:
            self._check()
            if not buffer.has_room(size):
                buffer.hurry()
                self._courier.look_at(buffer)
                return False
            if buffer.put(text, size):
                self._courier.look_at(buffer)
            return True

        return put

    def _flushing(self) -> Callable[[], bool]:
        """Return the attempt to have everything in Redis."""
        self._check()
        marks: list[int] = []

        def has_taken() -> bool:
            if not marks:
                self._check()
                marks.append(self._buffer.hurry())
                self._courier.look_at(self._buffer)
            if self._buffer.has_taken(marks[0]):
                return True
            self._check()
            return False

        return has_taken

    def _failing(self, text: object) -> Callable[[], bool]:
        """Return the attempt to end it as failed."""
        self._check()
        message = self._buffer.error(checked_text(text))
        begun: list[None] = []

        def is_over() -> bool:
            if not begun:
                self._check()
                begun.append(None)
                self._buffer.end(message)
                self._courier.look_at(self._buffer)
            return self._buffer.is_over

        return is_over

    def _leaving(self, error: BaseException | None) -> Callable[[], bool]:
        """Return the attempt to end it as its block has ended, with `error` or well."""

        def is_over() -> bool:
            if not self._buffer.is_over and not self._buffer.is_ending:
                self._buffer.end(None if error is None else self._error)
                self._courier.look_at(self._buffer)
            return self._buffer.is_over

        return is_over

    def _left(self, error: BaseException | None) -> bool:
        """Return whether `error` is no more than that the run was stopped.

        Raises what the block has to raise, if that has ended well.
        """
        outcome = self._buffer.outcome
        if outcome is None:
            return False
        if error is None:
            if isinstance(outcome, RunLost) or not isinstance(outcome, RunOver):
                raise outcome.with_traceback(None)
        elif isinstance(outcome, RunStopped):
            return _is_nothing_but(error, outcome)
        elif not isinstance(outcome, RunOver) and error is not outcome:
            error.add_note(f"Redis could not be told that the run has failed: {outcome}")
        return False


def checked_text(text: object) -> str:
    """Return the text of an error; raises :class:`~sinapse.errors.InvalidMessage`."""
    if not isinstance(text, str):
        raise InvalidMessage(f"the text of an error is a str, not {type(text).__name__}")
    return plain(text)


def _is_nothing_but(error: BaseException, outcome: SinapseError) -> bool:
    """Whether that is all that was raised: a task group raises a group of it."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(lambda each: each is outcome)[1] is None
    return error is outcome
