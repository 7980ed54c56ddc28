"""The log: where twistd writes it, from a level on, as text or as JSON lines.

A JSON line is an object. It always has ``time`` (RFC 3339, UTC), ``level``, ``pid``, ``logger``
(where in the code it comes from) and ``message``; ``traceback`` if there is an exception. Lines
about a stream, an endpoint or the like have its parts as fields too, under stable names:
``docs/monitoring.md`` lists them.
"""

import json
import os
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    formatEvent,
)
from twisted.scripts._twistd_unix import UnixAppLogger

#: What was chosen, for :func:`observer`: twistd knows its observer by name only.
_chosen: dict[str, Any] = {}


def choose(options: MutableMapping[str, Any], level: str, form: str) -> None:
    """Have twistd, whose options these are, log from `level` on, in the `form` text or json."""
    _chosen.update(options=dict(options), level=level, form=form)
    options["logger"] = f"{__name__}.{observer.__name__}"


def observer() -> ILogObserver:
    """Return twistd's own log observer, with its file and its rotation, but writing our way."""
    chosen = UnixAppLogger(_chosen["options"])._getLogObserver()  # noqa: SLF001
    if not isinstance(chosen, FileLogObserver):  # syslog, which has its own form.
        chosen = LegacyLogObserverWrapper(chosen)
    elif _chosen["form"] == "json":
        chosen.formatEvent = as_json
    threshold = LogLevelFilterPredicate(LogLevel.levelWithName(_chosen["level"]))
    return FilteringLogObserver(chosen, [threshold])


def as_json(event: LogEvent) -> str | None:
    """Return an event as a line of JSON."""
    failure = event.get("log_failure")
    line = {
        "time": _time(event.get("log_time", 0)),
        "level": event["log_level"].name if event.get("log_level") else "info",
        "pid": event.get("log_pid") or os.getpid(),
        "logger": event.get("log_namespace") or "twisted",
        "message": formatEvent(event) or (failure.getErrorMessage() if failure else ""),
    }
    if failure is not None:
        line["traceback"] = eventAsText(
            event, includeTimestamp=False, includeSystem=False
        ).removeprefix(f"{line['message']}\n")
    if str(line["logger"]).startswith("sinapse."):
        line |= {
            name: value
            for name, value in event.items()
            if not name.startswith("log_") and name not in line and _is_plain(value)
        }
    return json.dumps(line) + "\n"


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def _time(seconds: float) -> str:
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
