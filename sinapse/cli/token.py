"""``sinapse token``: what a browser opens a stream with."""

import click

from sinapse.cli.publishing import Refused, publishing
from sinapse.publisher import Publisher
from sinapse.publisher.operations.tokens import USER

_kind = click.option(
    "--kind", default=USER, show_default=True, help="Name of the class of the subject."
)
_expires_in = click.option(
    "--expires-in", type=float, metavar="SECONDS", help="How long it lives; default: for ever."
)


@click.group("token")
def command() -> None:
    """Make, show and revoke tokens."""


@command.command("new")
@click.argument("subject")
@_kind
@_expires_in
@publishing
def new(publisher: Publisher, subject: str, kind: str, expires_in: float | None) -> None:
    """Make a token for a SUBJECT that has none, and print it."""
    if publisher.tokens.get(subject, kind) is not None:
        raise Refused(f"{kind} {subject} has a token: show prints it, reset replaces it")
    click.echo(publisher.tokens.generate(subject, kind, expires_in))


@command.command("obtain")
@click.argument("subject")
@_kind
@_expires_in
@publishing
def obtain(publisher: Publisher, subject: str, kind: str, expires_in: float | None) -> None:
    """Print the token of SUBJECT; make one if there is none.

    One that is there lives for as long, too.
    """
    click.echo(publisher.tokens.obtain(subject, kind, expires_in))


@command.command("show")
@click.argument("subject")
@_kind
@publishing
def show(publisher: Publisher, subject: str, kind: str) -> None:
    """Print the token of SUBJECT."""
    found = publisher.tokens.get(subject, kind)
    if found is None:
        raise Refused(f"{kind} {subject} has no token")
    click.echo(found)


@command.command("reset")
@click.argument("subject")
@_kind
@_expires_in
@publishing
def reset(publisher: Publisher, subject: str, kind: str, expires_in: float | None) -> None:
    """Replace the token of SUBJECT, and print the new one. Open streams end."""
    click.echo(publisher.tokens.reset(subject, kind, expires_in))


@command.command("revoke")
@click.argument("subject")
@_kind
@publishing
def revoke(publisher: Publisher, subject: str, kind: str) -> None:
    """Revoke the token of SUBJECT: open streams end."""
    if not publisher.tokens.clear(subject, kind):
        raise Refused(f"{kind} {subject} has no token")
