"""Whether the daemon answers, and whether a message gets through it."""

import queue
import time
from collections.abc import Iterator
from http import HTTPStatus
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import urlopen

from sinapse import __version__
from sinapse.cli.checks.finding import ANSWER_TIMEOUT, Finding, Verdict, text_of
from sinapse.cli.trial import Trial
from sinapse.errors import BrokerUnavailable, StreamEnded
from sinapse.listening.course import UNAUTHORIZED
from sinapse.publisher import Publisher

#: What a daemon answers if all is well, and the beginning of its 404: of a proxy they differ.
_OK = b"OK\n"
_NOT_FOUND = b"404 Not Found\n"

#: Bytes of an answer that are read.
_MAX_ANSWER = 1024

_PASSED_ON = (
    "The daemon says so itself: the proxy passes the path on, and the daemon answers at / only. "
    "Let the proxy take the path away."
)
_NOBODY = "It is not the daemon that says so: has the proxy this path? Or name another URL."


def check_daemon(url: str) -> Iterator[Finding]:
    """Ask the daemon at `url` whether it is alive and ready."""
    below = url if url.endswith("/") else f"{url}/"
    for path, meaning, advice in (
        ("status", "alive", "Start it: sinapse serve; or name another URL."),
        ("ready", "Redis is there", "See its log for why it does not reach Redis."),
    ):
        what = f"{url} {path}"
        try:
            with urlopen(urljoin(below, path), timeout=ANSWER_TIMEOUT) as answer:  # noqa: S310
                server = answer.headers.get("Server", "unknown")
                body = answer.read(_MAX_ANSWER)
        except HTTPError as error:
            with error:
                said = error.read(_MAX_ANSWER)
            by_whom = _PASSED_ON if said == _NOT_FOUND else _NOBODY
            is_lost = error.code == HTTPStatus.NOT_FOUND
            yield Finding(
                Verdict.WRONG, what, f"answers {error.code}", by_whom if is_lost else advice
            )
            return
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            yield Finding(Verdict.WRONG, what, str(reason), advice)
            return
        if body != _OK:
            yield Finding(Verdict.WRONG, what, "answers, but not as a daemon", _NOBODY)
            return
        yield Finding(Verdict.FINE, what, meaning)
    if server.startswith("Sinapse/") and server != f"Sinapse/{__version__}":
        yield Finding(
            Verdict.DOUBT, url, f"is {server}, this is {__version__}", "Update the older one."
        )


def check_path(publisher: Publisher, url: str) -> Iterator[Finding]:
    """Look whether a message of `publisher` arrives through `url`, and at once."""
    what = f"from Redis through {url}"
    try:
        with Trial(publisher, url) as trial:
            start = time.perf_counter()
            publisher.publish(trial.name, "x", retain=0)
            trial.next(ANSWER_TIMEOUT)
            took = 1000 * (time.perf_counter() - start)
    except queue.Empty:
        yield Finding(
            Verdict.WRONG,
            what,
            f"nothing arrives within {ANSWER_TIMEOUT:g} s",
            "Is it the Redis of that daemon? Does a proxy hold streams back? In nginx: "
            "proxy_buffering off; no proxy may compress text/event-stream.",
        )
    except StreamEnded as error:
        yield Finding(
            Verdict.WRONG,
            what,
            error.reason if error.status is None else f"answers {error.status} {error.reason}",
            _advice(error.status),
        )
    except (OSError, BrokerUnavailable, ValueError) as error:
        yield Finding(Verdict.WRONG, what, text_of(error), "See above.")
    else:
        yield Finding(Verdict.FINE, what, f"a message takes {took:.1f} ms")


def _advice(status: int | None) -> str:
    """Return what to do about a `status` with which a stream was refused."""
    if status in UNAUTHORIZED:
        return "Is it the Redis of that daemon, and its prefix?"
    if HTTPStatus.MULTIPLE_CHOICES <= (status or 0) < HTTPStatus.BAD_REQUEST:
        return "Name the URL that it leads to, with its last slash."
    return "See above."
