"""``sinapse doctor``: whether everything is as it should be, and what to do if it is not."""

import json
from collections.abc import Iterator, Sequence

import click

from sinapse.cli.address import relay_url, url_argument
from sinapse.cli.checks.daemon import check_daemon, check_path
from sinapse.cli.checks.finding import Finding, Verdict
from sinapse.cli.checks.machine import check_machine
from sinapse.cli.checks.redis import check_redis
from sinapse.cli.checks.relay import check_relay
from sinapse.cli.publishing import connected, prefix_option
from sinapse.printable import printable
from sinapse.publisher import Publisher


@click.command("doctor")
@url_argument
@click.option("--redis", metavar="URL", help="Where Redis is.  [default: REDIS_URL]")
@prefix_option
@click.option(
    "--relay",
    "relays",
    metavar="URL",
    multiple=True,
    type=relay_url,
    help="The figures of a relay of an outbox; may be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on each line.")
def command(
    url: str, redis: str | None, prefix: str | None, relays: Sequence[str], as_json: bool
) -> None:
    """Look at Redis, at the daemon at URL, at relays, and at this machine.

    Each finding says what to do. Exit code 1 if something is wrong.
    """
    with connected(redis, prefix) as publisher:
        findings = []
        for finding in _check_all(publisher, url, relays):
            findings.append(finding)
            _show(finding, as_json=as_json)
    if any(finding.verdict is Verdict.WRONG for finding in findings):
        raise click.exceptions.Exit(1)


def _check_all(publisher: Publisher, url: str, relays: Sequence[str]) -> Iterator[Finding]:
    has_redis = False
    for finding in check_redis(publisher):
        has_redis = has_redis or finding.verdict is Verdict.FINE
        yield finding
    yield from check_daemon(url)
    if has_redis:
        yield from check_path(publisher, url)
    for relay in relays:
        yield from check_relay(relay)
    yield from check_machine()


def _show(finding: Finding, *, as_json: bool) -> None:
    word, colour = finding.verdict.value
    if as_json:
        fields = {**finding._asdict(), "verdict": word}
        click.echo(json.dumps(fields, ensure_ascii=False))
        return
    found = printable(finding.found)  # Some of it is what others have answered.
    click.echo(f"{click.style(f'{word:8}', colour)} {finding.what}: {found}")
    if finding.advice:
        click.echo(f"         {finding.advice}")
