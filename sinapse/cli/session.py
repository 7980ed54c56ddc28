"""``sinapse session``: a token for each device, of which one ends alone."""

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from sinapse.cli.publishing import Refused, publishing
from sinapse.printable import printable
from sinapse.publisher import Publisher, Session

_COLUMNS = ("id", "device", "opened", "seen", "expires", "only")

_expires_in = click.option(
    "--expires-in", type=float, metavar="SECONDS", help="How long it lives; default: for ever."
)


@click.group("session")
def command() -> None:
    """Open, list and end sessions: tokens of devices, which end one by one."""


@command.command("open")
@click.argument("subject")
@click.option("--device", help="What it is for, in words for people.")
@_expires_in
@click.option(
    "--only",
    multiple=True,
    metavar="CHANNEL",
    help="A part of the list that it is for, or a prefix that ends in *; may be repeated.",
)
@publishing
def open_(
    publisher: Publisher,
    subject: str,
    device: str | None,
    expires_in: float | None,
    only: tuple[str, ...],
) -> None:
    """Open a session of SUBJECT, and print its token; its id is told on standard error."""
    opened = publisher.sessions.open(
        subject, device=device, expires_in=expires_in, only=only or None
    )
    click.echo(opened.token)
    click.echo(f"session {opened.id}", err=True)
    for each in opened.ended:
        click.echo(f"session {each} has ended: there were too many", err=True)


@command.command("list")
@click.argument("subject")
@publishing
def list_(publisher: Publisher, subject: str) -> None:
    """Print the sessions of SUBJECT, the oldest first; times are UTC."""
    if found := publisher.sessions.list(subject):
        for line in _table([_COLUMNS, *map(_row, found)]):
            click.echo(line)


@command.command("renew")
@click.argument("subject")
@click.argument("session")
@_expires_in
@publishing
def renew(publisher: Publisher, subject: str, session: str, expires_in: float | None) -> None:
    """Let the SESSION of an id live longer."""
    if not publisher.sessions.renew(subject, session, expires_in):
        raise _no_session(subject, session)


@command.command("end")
@click.argument("subject")
@click.argument("session")
@publishing
def end(publisher: Publisher, subject: str, session: str) -> None:
    """End the SESSION of an id: its open streams end, and no others."""
    if not publisher.sessions.end(subject, session):
        raise _no_session(subject, session)


@command.command("end-all")
@click.argument("subject")
@click.option("--but", metavar="SESSION", help="The id of one that stays.")
@publishing
def end_all(publisher: Publisher, subject: str, but: str | None) -> None:
    """End all sessions of SUBJECT: their open streams end."""
    click.echo(f"{publisher.sessions.end_all(subject, but)} ended", err=True)


def _no_session(subject: str, session: str) -> Refused:
    return Refused(f"{subject} has no session {session}")


def _row(session: Session) -> tuple[str, ...]:
    only = " ".join(sorted(session.only or ()))
    cells = (
        session.id,
        session.device or "-",
        _time(session.opened),
        _time(session.seen),
        _time(session.expires),
        only or "-",
    )
    return tuple(" ".join(printable(each).split()) for each in cells)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError):  # Redis has what another program wrote.
        return "?"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
