"""``sinapse publish``: messages from a shell."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click

from sinapse.cli.publishing import Refused, publishing
from sinapse.publisher import Publisher
from sinapse.publisher.operations.retention import read_replay


@click.command("publish")
@click.argument("channel")
@click.argument("message", required=False)
@click.option("--event", help="Event type.")
@click.option("--retain", type=float, metavar="SECONDS", help="How long it is retained; 0: not.")
@click.option("--message-id", metavar="ID", help="Publish a message with this id only once.")
@click.option(
    "--replay",
    type=read_replay,
    metavar="N|all",
    help="How many of the last messages of the channel a new stream gets.",
)
@click.option(
    "--retain-messages", type=int, metavar="N", help="How many messages the channel keeps."
)
@click.option("--but", metavar="STREAM", help="The name of a stream that does not get it.")
@publishing
def command(
    *,
    publisher: Publisher,
    channel: str,
    message: str | None,
    message_id: str | None,
    **options: Any,
) -> None:
    """Publish MESSAGE to CHANNEL; without one, each line of standard input.

    Says how many daemons had a listener.
    """
    if message is not None:
        nodes = publisher.publish(channel, message, message_id=message_id, **options)
        click.echo(f"{nodes} {'daemon' if nodes == 1 else 'daemons'} had listeners", err=True)
        return
    if message_id is not None:
        raise click.UsageError("--message-id is for one MESSAGE")
    count = 0
    for line in _with_progress(_lines()):
        publisher.publish(channel, line, **options)
        count += 1
    click.echo(f"{count} published", err=True)


def _lines() -> Iterator[str]:
    """Yield the lines of standard input, whatever the locale: messages are UTF-8."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.rstrip(b"\r\n").decode()
        except UnicodeDecodeError:
            raise Refused(f"line {number} of standard input is not UTF-8") from None


def _with_progress(lines: Iterable[str]) -> Iterable[str]:
    """Show how far it is, to people."""
    if not sys.stderr.isatty() or sys.stdin.isatty():
        return lines
    # Imported here because only people need it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

    def shown() -> Iterator[str]:
        columns = (SpinnerColumn(), TextColumn("published"), MofNCompleteColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            yield from progress.track(lines, total=None)

    return shown()
