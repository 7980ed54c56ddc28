"""The administration endpoint of a node with workers: what all of them say, put together.

Counters never go backwards: the last that is known of a worker that is gone is kept, and it is
asked often enough that this is not much less than the last there was.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.web.server import Request

from sinapse import __version__
from sinapse.admin.lookups import MAX_TOP
from sinapse.admin.metrics import Figures, exposition, process_figures
from sinapse.admin.status import when_known
from sinapse.daemon.workers.client import Silence, ask
from sinapse.daemon.workers.inheritance import EAR
from sinapse.daemon.workers.process import Process
from sinapse.daemon.workers.totals import add, lasting, one_subject, top_channels, total
from sinapse.web.answers import Plain, respond

#: Seconds between two looks at what workers have counted.
LOOK_INTERVAL = 5.0


class Overview(Service):
    """Asks all `workers`, and answers as one node would; `ear` is what hears Redis for them.

    `prefix` is what names in Redis begin with.
    """

    def __init__(
        self,
        workers: Sequence[Process],
        ear: Callable[[], Process | None],
        prefix: str,
        reactor: Any,
    ) -> None:
        self._workers = workers
        self._ear = ear
        self._prefix = prefix
        self._reactor = reactor
        self._started = reactor.seconds()
        self._last: dict[int | str, Figures] = {}
        self._gone: Figures = {}
        self._silences = 0
        self._looks = LoopingCall(self._ask_status)
        self._looks.clock = reactor

    def startService(self) -> None:  # noqa: N802
        """Begin to look now and then."""
        super().startService()
        self._looks.start(LOOK_INTERVAL, now=False)

    def stopService(self) -> None:  # noqa: N802
        """Look no more."""
        super().stopService()
        self._looks.stop()

    def ended(self, process: Process) -> None:
        """Take note that a process has ended: what it has counted is kept."""
        self._gone = add(self._gone, lasting(self._last.pop(process.label, {})))

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return what ``/metrics`` answers."""
        answers = await self._ask_status()
        processes = {"parent": process_figures()}
        processes |= {str(name): answer["process"] for name, answer in answers.items()}
        if (ear := await self._ask_ear()) is not None:
            processes[EAR] = ear["process"]
        return exposition(accept, self._figures(answers), processes, prefix=self._prefix)

    async def status(self) -> dict[str, Any]:
        """Return what ``/status`` answers."""
        answers = await self._ask_status()
        ear = await self._ask_ear()
        children = [*answers.values(), *([] if ear is None else [ear])]
        processes = [process_figures(), *(answer["process"] for answer in children)]
        process = self._ear()
        whole: dict[str, Any] = {}
        for each in processes:
            whole = add(whole, each)
        if "start_time_seconds" in whole:  # Not every system tells.
            whole["start_time_seconds"] = min(each["start_time_seconds"] for each in processes)
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime": round(self._reactor.seconds() - self._started, 1),
            "redis": _redis({answer["redis"] for answer in answers.values()}),
            "ready": self._unready(answers) == 0,
            "prefix": self._prefix,
            **self._figures(answers),
            "process": whole,
            **({} if process is None else {EAR: _state(process, ear)}),
            "workers": [
                {
                    "number": worker.label,
                    **_state(worker, answers.get(worker.label)),
                    **_part(answers.get(worker.label)),
                }
                for worker in self._workers
            ],
        }

    async def trouble(self) -> str | None:
        """Return why a worker should not get clients now, if so."""
        answers = await self._ask_status()
        count = len(self._workers)
        unready = self._unready(answers)
        return f"{count - unready} of {count} workers are ready" if unready else None

    def _unready(self, answers: Mapping[int | str, Figures]) -> int:
        """Return how many workers should not get clients now."""
        return sum(
            not (worker.is_ready and answers.get(worker.label, {}).get("ready"))
            for worker in self._workers
        )

    async def subject(self, identifier: str) -> dict[str, Any]:
        """Return a subject with its open streams, and which worker has them."""
        answers = await self._ask_all(_subject(identifier))
        return {"subject": identifier, **one_subject(answers)}

    async def end(self, identifier: str) -> dict[str, Any]:
        """End the streams of a subject at all workers; returns how many that were."""
        answers = await self._ask_all(_subject(identifier), "DELETE")
        return {"ended": sum(answer["ended"] for answer in answers.values())}

    async def channels(self, count: int, order: str) -> dict[str, Any]:
        """Return the channels with the most: of those that are among them at some worker."""
        answers = await self._ask_all(f"/channels?top={MAX_TOP}&by={order}")
        return top_channels(answers.values(), count, order)

    def _figures(self, answers: Mapping[int | str, Figures]) -> Figures:
        ear = [] if (process := self._ear()) is None else [process]
        absent = [each for name, each in self._last.items() if name not in answers]
        return {
            **total(answers.values(), [*absent, self._gone]),
            "workers_wanted": len(self._workers),
            "workers_serving": sum(worker.is_ready for worker in self._workers),
            "worker_ends": sum(process.ends for process in (*self._workers, *ear)),
            "worker_silences": self._silences,
        }

    async def _ask_status(self) -> dict[int | str, dict[str, Any]]:
        answers = await self._ask_all("/status")
        # One that was asked may have been replaced by now, and its figures been kept.
        now = {worker.label: worker.pid for worker in self._workers}
        answers = {name: answer for name, answer in answers.items() if answer["pid"] == now[name]}
        self._last |= answers
        return answers

    async def _ask_ear(self) -> dict[str, Any] | None:
        ear = self._ear()
        if ear is None or not ear.has_started:
            return None
        return await self._ask_one(ear, "/status", "GET")

    async def _ask_all(self, what: str, method: str = "GET") -> dict[int | str, dict[str, Any]]:
        """Return the answer of each worker; those that do not answer are left out, and counted."""
        asked = [worker for worker in self._workers if worker.has_started and worker.admin]
        answers = await gatherResults(
            [Deferred.fromCoroutine(self._ask_one(worker, what, method)) for worker in asked]
        )
        return {
            worker.label: answer
            for worker, answer in zip(asked, answers, strict=True)
            if answer is not None
        }

    async def _ask_one(self, process: Process, what: str, method: str) -> dict[str, Any] | None:
        try:
            return await ask(str(process.admin), what, self._reactor, method)
        except Silence:
            self._silences += 1
            return None


class Ready(Plain):
    """``/ready``: every worker serves, and has Redis."""

    def __init__(self, overview: Overview) -> None:
        super().__init__()
        self._overview = overview

    def answer(self, request: Request) -> int:
        """Answer 200 or 503."""

        def send(trouble: str | None) -> None:
            if trouble is None:
                respond(request, 200, b"OK\n")
            else:
                respond(request, 503, f"503 {trouble}\n".encode())

        return when_known(request, self._overview.trouble(), send)


def _subject(identifier: str) -> str:
    return f"/subjects/{quote(identifier, safe='', errors='surrogateescape')}"


def _redis(states: set[str]) -> str:
    """Return how Redis is: as the workers say that find most wrong with it."""
    return ", ".join(sorted(states - {"connected"})) or "".join(states) or "unknown"


def _state(process: Process, answer: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return how a process is."""
    return {
        "pid": process.pid,
        "serves": process.is_ready,
        "answers": answer is not None,
        "ends": process.ends,
    }


def _part(answer: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what is shown of one worker."""
    names = ("uptime", "redis", "streams", "messages", "deliveries")
    return {} if answer is None else {name: answer[name] for name in names}
