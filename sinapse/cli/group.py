"""``sinapse group``: who is in a group, and what its members may listen to."""

from collections.abc import Iterator
from itertools import islice

import click

from sinapse.cli.publishing import publishing
from sinapse.publisher import Publisher


@click.group("group")
def command() -> None:
    """Show and change groups, whose members listen to the same; open streams follow at once."""


@command.command("add")
@click.argument("subject")
@click.argument("groups", nargs=-1, required=True, metavar="GROUP...")
@publishing
def add(publisher: Publisher, subject: str, groups: tuple[str, ...]) -> None:
    """Make SUBJECT a member of each GROUP."""
    with publisher.pipeline() as pipeline:
        for group in groups:
            pipeline.groups.add(subject, group)


@command.command("remove")
@click.argument("subject")
@click.argument("groups", nargs=-1, required=True, metavar="GROUP...")
@publishing
def remove(publisher: Publisher, subject: str, groups: tuple[str, ...]) -> None:
    """End the membership of SUBJECT in each GROUP."""
    with publisher.pipeline() as pipeline:
        for group in groups:
            pipeline.groups.remove(subject, group)


@command.command("clear")
@click.argument("subject")
@publishing
def clear(publisher: Publisher, subject: str) -> None:
    """End the membership of SUBJECT in all groups."""
    click.echo(f"{publisher.groups.clear(subject)} left", err=True)


@command.command("of")
@click.argument("subject")
@publishing
def of(publisher: Publisher, subject: str) -> None:
    """Print the groups that SUBJECT is in, one a line."""
    for name in sorted(publisher.groups.of(subject)):
        click.echo(name)


@command.command("members")
@click.argument("group")
@click.option("--after", metavar="SUBJECT", help="The id to go on after; default: from the first.")
@click.option(
    "--limit", type=click.IntRange(min=1), help="How many, at the most; default: all of them."
)
@publishing
def members(publisher: Publisher, group: str, after: str | None, limit: int | None) -> None:
    """Print the ids of the members of GROUP, one a line, in the order of their bytes."""
    for subject in islice(_members(publisher, group, after), limit):
        click.echo(subject)


def _members(publisher: Publisher, group: str, after: str | None) -> Iterator[str]:
    while page := publisher.groups.members(group, after):
        yield from page
        after = page[-1]


@command.group("channels")
def channels() -> None:
    """Show and change what the members of a group may listen to."""


@channels.command("list")
@click.argument("group")
@publishing
def list_channels(publisher: Publisher, group: str) -> None:
    """Print the channels that the members of GROUP may listen to, one a line."""
    for name in sorted(publisher.groups.channels(group).list()):
        click.echo(name)


@channels.command("add")
@click.argument("group")
@click.argument("names", nargs=-1, required=True, metavar="CHANNEL...")
@publishing
def add_channels(publisher: Publisher, group: str, names: tuple[str, ...]) -> None:
    """Let the members of GROUP listen to each CHANNEL."""
    with publisher.pipeline() as pipeline:
        for name in names:
            pipeline.groups.channels(group).add(name)


@channels.command("remove")
@click.argument("group")
@click.argument("names", nargs=-1, required=True, metavar="CHANNEL...")
@publishing
def remove_channels(publisher: Publisher, group: str, names: tuple[str, ...]) -> None:
    """Let the members of GROUP listen to no CHANNEL of these any more."""
    with publisher.pipeline() as pipeline:
        for name in names:
            pipeline.groups.channels(group).remove(name)


@channels.command("clear")
@click.argument("group")
@publishing
def clear_channels(publisher: Publisher, group: str) -> None:
    """Remove all channels of GROUP."""
    click.echo(f"{publisher.groups.channels(group).clear()} removed", err=True)
