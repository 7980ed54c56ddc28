"""``sinapse history``: what is retained of a channel."""

import click

from sinapse.cli.publishing import publishing
from sinapse.printable import printable, printable_json
from sinapse.publisher import Publisher
from sinapse.publisher.operations.history import LIMIT


@click.command("history")
@click.argument("channel")
@click.option("--after", metavar="ID", help="Only what came after this message, or position.")
@click.option("--limit", type=int, default=LIMIT, show_default=True, metavar="N")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on each line.")
@publishing
def command(
    *, publisher: Publisher, channel: str, after: str | None, limit: int, as_json: bool
) -> None:
    """Print the messages of CHANNEL that are retained, oldest first, with their ids."""
    page = publisher.history(channel, after, limit)
    for each in page.messages:
        if as_json:
            event = {} if each.event is None else {"event": each.event}
            click.echo(printable_json({"data": each.data, **event, "id": each.id}))
        else:
            click.echo(f"{each.id} {printable(each.event or 'message')}: {printable(each.data)}")
    if page.missing:
        click.echo("Others are no longer retained.", err=True)
    if page.more:
        click.echo(f"There are more: --after {page.messages[-1].id}", err=True)
