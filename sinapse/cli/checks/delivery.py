"""Whether a Redis delivers what is published there, as daemons need it."""

import secrets
import time

from sinapse.cli.checks.finding import ANSWER_TIMEOUT, Finding, Verdict
from sinapse.cli.checks.server import Server
from sinapse.errors import BrokerUnavailable
from sinapse.protocol.keys import CONTROL_PATTERN
from sinapse.protocol.scripts import MARK

#: An action of control messages that nobody knows: it is ignored.
_ACTION = "trial"


def check_delivery(server: Server) -> Finding:
    """Publish by a script and without one, and look whether a subscriber of both hears it."""
    what = f"{server.name}, what is published"
    names = server.url.names
    word = secrets.token_hex(8)
    channel, control = f"{names.nodes}:{word}", names.control_channel(word, _ACTION)
    waiting = {channel.encode(), control.encode()}
    try:
        with server.subscriber() as subscriber:
            subscriber.ask("PSUBSCRIBE", names.prefix + CONTROL_PATTERN)
            subscriber.ask("SUBSCRIBE", channel)
            start = time.perf_counter()
            script = MARK.under(names).source
            server.ask("EVAL", script, "2", names.retention, names.last, channel)
            server.ask("PUBLISH", control, "")
            # Others publish control messages as well.
            while waiting and time.perf_counter() - start < ANSWER_TIMEOUT:
                kind, *_, name, _payload = subscriber.next()
                if kind in (b"message", b"pmessage"):
                    waiting.discard(name)
            took = 1000 * (time.perf_counter() - start)
    except (BrokerUnavailable, TypeError, ValueError) as error:
        reason = server.reason(error) if isinstance(error, BrokerUnavailable) else "junk"
        return _unheard(what, reason)
    if waiting:
        return _unheard(what, "nothing comes")
    return Finding(Verdict.FINE, what, f"is heard after {took:.1f} ms")


def _unheard(what: str, reason: str) -> Finding:
    return Finding(
        Verdict.WRONG,
        what,
        f"is not heard by a subscriber: {reason}",
        "All connections must come to one Redis: a proxy that shares them out, or answers itself, "
        "will not do.",
    )
