"""Whether a relay of an outbox answers, and keeps up: its own figures tell."""

from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from sinapse.cli.checks.finding import ANSWER_TIMEOUT, Finding, Verdict, text_of

#: Seconds for which a message may wait: a relay looks once a second.
LONGEST_WAIT = 10.0

#: Bytes of an answer that are read: some hundred for each outbox.
MAX_ANSWER = 1024 * 1024

#: What the names of its figures begin with.
_PREFIX = "sinapse_outbox_"

_NAME_IT = "Name the port of its --metrics: manage.py sinapse_relay --metrics 9110."


def check_relay(url: str) -> Iterator[Finding]:
    """Ask the relay whose figures are at `url` what waits, and what it has done."""
    what = f"relay {url}"
    try:
        with urlopen(url, timeout=ANSWER_TIMEOUT) as answer:  # noqa: S310
            outboxes = _outboxes(answer.read(MAX_ANSWER).decode())
    except HTTPError as error:
        error.close()
        is_cut_off = error.code == HTTPStatus.SERVICE_UNAVAILABLE
        yield Finding(
            Verdict.WRONG,
            what,
            f"answers {error.code}",
            "It cannot ask its database: its log says why." if is_cut_off else _NAME_IT,
        )
        return
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        yield Finding(Verdict.WRONG, what, text_of(reason), f"Start it. {_NAME_IT}")
        return
    except ValueError:
        outboxes = {}
    if not outboxes:
        yield Finding(Verdict.WRONG, what, "answers, but not as a relay", _NAME_IT)
    for name, figures in outboxes.items():
        yield from _one_outbox(f"{what}, outbox {name}", figures)


def _outboxes(text: str) -> dict[str, dict[str, float]]:
    """Return the figures of each outbox; raises ``ValueError`` if they are none."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith(_PREFIX):
                figures = found.setdefault(sample.labels.get("outbox", ""), {})
                figures[sample.name.removeprefix(_PREFIX)] = sample.value
    return found


def _one_outbox(what: str, figures: dict[str, float]) -> Iterator[Finding]:
    waiting, oldest = figures.get("waiting", 0.0), figures.get("oldest_seconds", 0.0)
    since = f", the oldest for {oldest:.1f} s" if waiting else ""
    is_late = oldest > LONGEST_WAIT
    yield Finding(
        Verdict.DOUBT if is_late else Verdict.FINE,
        what,
        f"{waiting:.0f} wait{since}; {figures.get('sent_total', 0.0):.0f} sent by this relay",
        "Its log says whether Redis is away or refuses a channel; the admin shows which wait."
        if is_late
        else "",
    )
    aside = figures.get("set_aside", 0.0)
    yield Finding(
        Verdict.DOUBT if aside else Verdict.FINE,
        f"{what}, set aside",
        f"{aside:.0f}",
        "They can never be sent: the admin shows why; there you send them again, or drop them."
        if aside
        else "",
    )
