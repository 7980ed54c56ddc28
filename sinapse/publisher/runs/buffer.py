"""What one run has to tell Redis, as messages in their order: no I/O, and no clock of its own."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sinapse.errors import MessageTooLarge, RunLost, RunOver, RunStopped, SinapseError
from sinapse.protocol.message import Message
from sinapse.protocol.runs import ENDINGS, LEASE, PIECE, RunState
from sinapse.publisher.operations.content import as_json, size_of
from sinapse.publisher.operations.runs import TellRun

#: Seconds: a piece that comes within these after a message waits for their end, with all others
#: that come meanwhile. To the eye that is at once; 25 messages a second are few for Redis, for a
#: node and for a page.
BATCH_WINDOW = 0.04

#: Seconds: windows end at multiples of these, never late, so that many runs share a round trip.
_GRID = BATCH_WINDOW / 4

#: Bytes of pieces after which a message goes out before its window has ended.
MESSAGE_SIZE = 32 * 1024

#: Bytes of pieces that wait for Redis, or for its answer; then ``send`` waits. A larger piece waits
#: alone.
HELD_SIZE = 64 * 1024

#: Seconds for which Redis may be away with pieces waiting: a failover takes a few, a restart with
#: many data half a minute.
RETRY_TIMEOUT = 30.0

#: Seconds before the second attempt, doubled each time, and the most.
_FIRST_DELAY = 0.1
_MAX_DELAY = 1.0


@dataclass(frozen=True, slots=True)
class _Parcel:
    """A message on its way: it is the same in every attempt."""

    operation: TellRun
    pieces: int
    size: int


class Buffer:
    """The pieces that Redis does not have yet, and what has become of the run.

    `most` is how many bytes of data a message may have.
    """

    def __init__(self, run: str, name: str, most: int) -> None:
        self.run = run
        #: The data that every message begins with, a JSON object.
        self.about: str = as_json({"run": run, "name": name})
        #: What becomes of the run, as far as is known here.
        self.state: RunState = RunState.RUNNING
        #: When Redis answered last.
        self.heard: float = 0.0
        #: What waits until something changes.
        self.waiting: list[Callable[[], None]] = []
        self._most = most
        self._limit = most - size_of(self._with_pieces(""))
        self._outcome: SinapseError | None = None
        self._pieces: deque[tuple[str, int]] = deque()
        self._held = 0
        self._waiting_size = 0
        self._parcel: _Parcel | None = None
        self._number = 0
        self._put = self._taken = self._urgent = 0
        self._ending: tuple[RunState, Message] | None = None
        self._last_sent: float | None = None
        self._first_failure: float | None = None
        self._failures = 0
        self._next_attempt = 0.0

    # What the application does

    def written(self, piece: object) -> tuple[str, int]:
        """Return `piece` as JSON, and its bytes.

        Raises :class:`~sinapse.errors.InvalidMessage` or :class:`~sinapse.errors.MessageTooLarge`.
        """
        text = as_json(piece)
        size = len(text) if text.isascii() else size_of(text)
        if size > self._limit:
            raise MessageTooLarge(f"the piece makes a message of more than {self._most} bytes")
        return text, size

    @property
    def held(self) -> int:
        """Bytes of the pieces that Redis does not have yet."""
        return self._held

    def has_room(self, size: int) -> bool:
        """Whether a piece of so many bytes may wait too."""
        return not self._held or self._held + size <= HELD_SIZE

    def put(self, text: str, size: int) -> bool:
        """Add a piece; return whether something is to be sent sooner by that."""
        before = self._waiting_size
        self._pieces.append((text, size))
        self._put += 1
        self._held += size + 1  # A comma each.
        self._waiting_size += size + 1
        return self._parcel is None and (not before or before < MESSAGE_SIZE <= self._waiting_size)

    def hurry(self) -> int:
        """Let everything go out at once; return the mark of that."""
        self._urgent = self._put
        return self._put

    def has_taken(self, mark: int) -> bool:
        """Whether Redis has everything up to a mark."""
        return self._taken >= mark

    def error(self, text: str) -> Message:
        """Return the message that the run has failed; raises as :meth:`written`."""
        data = f'{self.about[:-1]},"error":{as_json(text)}}}'
        if size_of(data) > self._most:
            raise MessageTooLarge(f"the text of the error makes more than {self._most} bytes")
        return Message(data, ENDINGS[RunState.FAILED])

    def end(self, error: Message | None = None) -> None:
        """Let the run be over when Redis has all pieces: well, or with an :meth:`error`."""
        if error is None:
            self._ending = RunState.ENDED, Message(self.about, ENDINGS[RunState.ENDED])
        else:
            self._ending = RunState.FAILED, error

    @property
    def is_ending(self) -> bool:
        """Whether the application has ended it."""
        return self._ending is not None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be told to Redis."""
        return self._outcome is not None

    @property
    def outcome(self) -> SinapseError | None:
        """What is raised for what is sent now; None while something can be sent."""
        if self._outcome is None and self._ending is not None:
            return RunOver(f"the run {self.run} has ended")
        return self._outcome

    # What the courier does

    def due(self) -> float | None:
        """Return from when on something is to be sent; None if there is nothing."""
        if self.is_over:
            return None
        if self._parcel is not None:
            return self._next_attempt
        if not self._pieces:
            return 0.0 if self._ending else None
        is_pressing = (
            self._ending or self._urgent > self._taken or self._waiting_size >= MESSAGE_SIZE
        )
        if is_pressing or self._last_sent is None:
            return 0.0
        return math.floor((self._last_sent + BATCH_WINDOW) / _GRID) * _GRID

    def take(self, now: float) -> TellRun:
        """Return what is to be sent: the same again until Redis has it."""
        if self._parcel is None:
            self._parcel = self._next()
            self._last_sent = now
        return self._parcel.operation

    def told(self, answer: RunState | None, now: float) -> None:
        """Note the answer of Redis to what was sent."""
        if self._parcel is None or self.is_over:
            return
        if answer is not self._parcel.operation.state:
            self.is_now(answer)
            return
        self._taken += self._parcel.pieces
        self._held -= self._parcel.size
        self._parcel = None
        self._failures, self._first_failure = 0, None
        self.heard = now
        self.is_now(answer)
        self.change()

    def is_now(self, state: RunState | None) -> None:
        """Note what Redis says that the run is; None if it does not know it."""
        if self.is_over or state is RunState.RUNNING:
            return
        self.state = RunState.LOST if state is None else state
        if state is RunState.STOPPED:
            self._be_over(RunStopped(f"the run {self.run} was stopped"))
        elif self.state is RunState.LOST:
            unknown = f"had no sign of life of it for {LEASE // 1000} s" if state else "forgot it"
            self._be_over(RunLost(f"the run {self.run} is lost: Redis {unknown}"))
        else:
            self._be_over(RunOver(f"the run {self.run} has ended"))

    def failed(self, error: SinapseError, now: float) -> None:
        """Note that an attempt has failed: there is another one, unless it lasts for too long."""
        if self._first_failure is None:
            self._first_failure = now
        delay = min(_MAX_DELAY, _FIRST_DELAY * 2 ** min(self._failures, 10))
        self._failures += 1
        self._next_attempt = now + delay
        if now - self._first_failure >= RETRY_TIMEOUT:
            self.break_off(error)

    def break_off(self, error: SinapseError) -> None:
        """Give up, for that reason."""
        if not self.is_over:
            self._be_over(error)

    def _be_over(self, outcome: SinapseError) -> None:
        self._outcome = outcome
        self._pieces.clear()
        self.change()

    def change(self) -> None:
        """Let all look again who wait."""
        waiting, self.waiting = self.waiting, []
        for wake in waiting:
            wake()

    def _next(self) -> _Parcel:
        texts: list[str] = []
        taken = 0
        most = min(MESSAGE_SIZE, self._limit)
        while self._pieces:
            text, size = self._pieces[0]
            if texts and taken + size > most:
                break
            self._pieces.popleft()
            texts.append(text)
            taken += size + 1
        self._waiting_size = max(0, self._waiting_size - taken) if self._pieces else 0
        self._number += 1
        if texts or self._ending is None:
            state, message = RunState.RUNNING, Message(self._with_pieces(",".join(texts)), PIECE)
        else:
            state, message = self._ending
        return _Parcel(TellRun(self.run, self._number, message, state), len(texts), taken)

    def _with_pieces(self, pieces: str) -> str:
        return f'{self.about[:-1]},"pieces":[{pieces}]}}'
