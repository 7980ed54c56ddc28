"""``sinapse channels``: what a subject may listen to."""

import click

from sinapse.cli.publishing import publishing
from sinapse.publisher import Publisher


@click.group("channels")
def command() -> None:
    """Show and change what subjects may listen to; open streams follow at once."""


@command.command("list")
@click.argument("subject")
@publishing
def list_(publisher: Publisher, subject: str) -> None:
    """Print the channels that SUBJECT may listen to, one a line."""
    for name in sorted(publisher.channels.list(subject)):
        click.echo(name)


@command.command("add")
@click.argument("subject")
@click.argument("names", nargs=-1, required=True, metavar="CHANNEL...")
@click.option(
    "--expires-in", type=float, metavar="SECONDS", help="For how long; default: for ever."
)
@publishing
def add(
    publisher: Publisher, subject: str, names: tuple[str, ...], expires_in: float | None
) -> None:
    """Let SUBJECT listen to each CHANNEL."""
    with publisher.pipeline() as pipeline:
        for name in names:
            pipeline.channels.add(subject, name, expires_in)


@command.command("remove")
@click.argument("subject")
@click.argument("names", nargs=-1, required=True, metavar="CHANNEL...")
@publishing
def remove(publisher: Publisher, subject: str, names: tuple[str, ...]) -> None:
    """Remove CHANNELs from the list of SUBJECT."""
    with publisher.pipeline() as pipeline:
        for name in names:
            pipeline.channels.remove(subject, name)
