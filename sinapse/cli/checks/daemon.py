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
from sinapse.publisher import Publisher


def check_daemon(url: str) -> Iterator[Finding]:
    """Ask the daemon at `url` whether it is alive and ready."""
    for path, meaning, advice in (
        ("status", "alive", "Start it: sinapse serve; or name another URL."),
        ("ready", "Redis is there", "See its log for why it does not reach Redis."),
    ):
        try:
            with urlopen(urljoin(url, path), timeout=ANSWER_TIMEOUT) as answer:  # noqa: S310
                server = answer.headers.get("Server", "unknown")
        except HTTPError as error:
            error.close()
            is_lost = error.code == HTTPStatus.NOT_FOUND
            yield Finding(
                Verdict.WRONG,
                f"{url} {path}",
                f"answers {error.code}",
                "Does the proxy pass the path on? The daemon answers at / only."
                if is_lost
                else advice,
            )
            return
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            yield Finding(Verdict.WRONG, f"{url} {path}", str(reason), advice)
            return
        yield Finding(Verdict.FINE, f"{url} {path}", meaning)
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
            f"answers {error.status}",
            "Is it the Redis of that daemon, and its prefix?",
        )
    except (OSError, BrokerUnavailable, ValueError) as error:
        yield Finding(Verdict.WRONG, what, text_of(error), "See above.")
    else:
        yield Finding(Verdict.FINE, what, f"a message takes {took:.1f} ms")
