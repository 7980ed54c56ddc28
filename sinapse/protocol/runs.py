"""Runs: the states that they are in, the events that they publish, and signs of life."""

from enum import StrEnum

#: Milliseconds for which a sign of life holds. A process gives one each half second, so a Redis
#: that fails over, or a machine that pauses for some seconds, loses no run.
LEASE = 10_000

#: Messages of a run that are kept: all of them, whatever the limit of other channels is.
MESSAGES = 1_000_000


class RunState(StrEnum):
    """What has become of a run."""

    RUNNING = "running"
    ENDED = "ended"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"


#: The event type of what a run sends.
PIECE = "piece"

#: The event type of the last message of a run, by the state that it is in then.
ENDINGS = {
    RunState.ENDED: "end",
    RunState.FAILED: "error",
    RunState.STOPPED: "stopped",
    RunState.LOST: "lost",
}
