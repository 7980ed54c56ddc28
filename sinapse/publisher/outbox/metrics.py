"""What a relay has done, and what waits, as the text that Prometheus reads."""

from collections.abc import Sequence

from sinapse.publisher.outbox.relay import Relay
from sinapse.publisher.outbox.store import Store

_HELP = {
    "waiting": ("gauge", "Messages that wait to be sent."),
    "oldest_seconds": ("gauge", "For how long the oldest of them waits."),
    "set_aside": ("gauge", "Messages that can never be sent."),
    "sent_total": ("counter", "Messages that this relay has sent."),
    "set_aside_total": ("counter", "Messages that this relay has set aside."),
}


def text(relay: Relay, stores: Sequence[Store]) -> str:
    """Return it, of all outboxes; asks each database once."""
    values: dict[str, list[tuple[str, float]]] = {name: [] for name in _HELP}
    for store in stores:
        found = store.statistics()
        values["waiting"].append((store.name, found.waiting))
        values["oldest_seconds"].append((store.name, round(found.oldest, 3)))
        values["set_aside"].append((store.name, found.set_aside))
        values["sent_total"].append((store.name, relay.sent[store.name]))
        values["set_aside_total"].append((store.name, relay.set_aside[store.name]))
    lines = []
    for name, (kind, help_text) in _HELP.items():
        family = f"sinapse_outbox_{name}"
        lines += [f"# HELP {family} {help_text}", f"# TYPE {family} {kind}"]
        lines += [
            f'{family}{{outbox="{_quoted(store)}"}} {value:g}' for store, value in values[name]
        ]
    return "\n".join([*lines, ""])


def _quoted(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
