"""``sinapse position``: where a stream begins that is to miss nothing from now on."""

import click

from sinapse.cli.publishing import publishing
from sinapse.publisher import Publisher


@click.command("position")
@publishing
def command(publisher: Publisher) -> None:
    """Print the id of now, over all channels, for --last-event-id of listen."""
    click.echo(publisher.position())
