"""``sinapse listen``: hear what a browser would hear."""

import json
import sys
from collections.abc import Callable
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import click

from sinapse.cli.address import url_argument
from sinapse.cli.publishing import Refused, Unavailable, connected, in_one_line, prefix_option
from sinapse.errors import StreamEnded
from sinapse.listening import Message, Stream, listen
from sinapse.printable import printable, printable_json
from sinapse.publisher.operations.tokens import USER

#: Seconds that a token lives if this command has to make one.
TOKEN_LIFETIME = 86400


@click.command("listen")
@url_argument
@click.option("--subject", help="Listen in the name of this subject, with its token.")
@click.option("--kind", default=USER, show_default=True, help="Name of the class of the subject.")
@click.option("--token", envvar="SINAPSE_TOKEN", help="Token to listen with.")
@click.option("--redis", metavar="URL", help="Where --subject gets its token.")
@prefix_option
@click.option("--last-event-id", default="", metavar="ID", help="Resume after this message.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on each line.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N messages.")
def command(
    *,
    url: str,
    subject: str | None,
    kind: str,
    token: str | None,
    redis: str | None,
    prefix: str | None,
    last_event_id: str,
    as_json: bool,
    count: int | None,
) -> None:
    """Show the messages that a browser at URL would receive, until Ctrl-C.

    URL may have an access_token. If the stream breaks, the command connects again and resumes.
    """
    url, found = without_token(url)
    token = token or found
    if subject is not None:
        with in_one_line(), connected(redis, prefix) as publisher:
            token = publisher.tokens.obtain(subject, kind, TOKEN_LIFETIME)
    if not token:
        raise click.UsageError("whose stream? --subject, --token, or an access_token in the URL")
    show = _as_json if as_json else _for_people() if sys.stdout.isatty() else _plain
    try:
        with listen(url, token=token, last_event_id=last_event_id) as stream:
            click.echo("Listening.", err=True)
            _show(stream, show, count)
    except KeyboardInterrupt:
        pass
    except StreamEnded as error:
        raise Refused(printable(str(error))) from None
    except (OSError, ValueError) as error:
        raise Unavailable(str(error)) from None


def without_token(url: str) -> tuple[str, str]:
    """Return `url` without its token, and the token: it is sent where no log has it."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query)
    token = next((value for name, value in query if name == "access_token"), "")
    rest = urlencode([pair for pair in query if pair[0] != "access_token"])
    return urlunsplit(parts._replace(query=rest)), token


def _show(stream: Stream, show: Callable[[Message], None], count: int | None) -> None:
    for number, message in enumerate(stream, start=1):
        show(message)
        if number == count:
            return


def _as_json(message: Message) -> None:
    fields = {name: value for name, value in message._asdict().items() if value is not None}
    click.echo(printable_json(fields))


def _plain(message: Message) -> None:
    click.echo(f"{printable(message.event or 'message')}: {printable(message.data)}")


def _for_people() -> Callable[[Message], None]:
    # Imported here because only people need it.
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()

    def show(message: Message) -> None:
        event = message.event or "message"
        style = "bold red" if message.by else "bold cyan"
        console.print(Text(printable(event), style), Text(message.id or "", "dim"))
        try:
            content = json.loads(message.data)
        except ValueError:
            console.print(Text(printable(message.data)))
        else:
            # What JSON need not escape may be a command of a terminal still.
            is_plain = json.dumps(content, ensure_ascii=False).isprintable()
            console.print_json(data=content, ensure_ascii=not is_plain)

    return show
