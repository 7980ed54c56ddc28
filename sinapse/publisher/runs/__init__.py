"""Runs: what produces an answer, a report, an import, and is shown as it comes.

::

    from sinapse.publisher import Publisher

    with Publisher().run(user_id, name="report") as run:
        for row in rows:
            run.send(row)

A run has a channel of its own, which its subject may listen to: who reloads the page gets all from
the start, and then what comes. See ``docs/runs.md``.

``buffer``    the pieces of one run that Redis does not have yet
``courier``   the buffers of a process: what is due, and what was answered
``block``     what every kind of run has in common
``blocking``  runs for threads
``awaited``   runs for coroutines
"""

from sinapse.protocol.runs import RunState
from sinapse.publisher.operations.runs import RunStatus
from sinapse.publisher.runs.blocking import Run, Runs

__all__ = ["Run", "RunState", "RunStatus", "Runs"]
