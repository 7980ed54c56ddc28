"""``sinapse reshard``: a Redis joins the others, or leaves them, while everything runs."""

import contextlib
import sys
import time
from collections.abc import Iterator
from functools import partial

import click

from sinapse.cli.publishing import Refused, publishing
from sinapse.publisher import Publisher
from sinapse.publisher.resharding.copying import Copying
from sinapse.publisher.resharding.finishing import Finishing
from sinapse.publisher.resharding.parties import CannotMove, Parties


@click.command("reshard")
@click.option("--dry-run", is_flag=True, help="Say how much would move, and change nothing.")
@click.option(
    "--finish",
    is_flag=True,
    help="Remove what has moved from where it was; nothing moves any more.",
)
@publishing
def command(publisher: Publisher, dry_run: bool, finish: bool) -> None:
    """Copy rights and tokens that move to a Redis that joins, or from one that leaves.

    The list of Redis says which: ``d=redis://d.example?state=joining``. It may be ended
    at any point, and begun again.
    """
    with _parties(publisher) as them:
        if finish:
            _finish(them, Finishing(them), dry=dry_run)
        else:
            _copy(them, Copying(them), dry=dry_run)


@contextlib.contextmanager
def _parties(publisher: Publisher) -> Iterator[Parties]:
    """Yield the Redis; what cannot be is said in one line."""
    them = Parties(publisher.urls)
    try:
        yield them
        if them.invalid:
            click.echo(f"entries that are no names, and stay as they are: {them.invalid}", err=True)
    except CannotMove as error:
        raise Refused(str(error)) from None
    finally:
        them.close()


@contextlib.contextmanager
def _alone(them: Parties) -> Iterator[None]:
    them.lock()
    try:
        yield
    finally:
        them.unlock()


@contextlib.contextmanager
def _progress(them: Parties, label: str) -> Iterator[None]:
    """Show how many keys have been looked at, if somebody looks."""
    if not sys.stderr.isatty():
        click.echo(f"{label} …", err=True)
        yield
        return
    with click.progressbar(length=them.keys(), label=label, file=sys.stderr) as bar:
        them.tell = bar.update
        yield


def _copy(them: Parties, copying: Copying, *, dry: bool) -> None:
    copying.check()
    if dry:
        with _progress(them, "looking"):
            copying.copy(dry=True)
        click.echo(f"{copying.copied} rights and tokens would be copied")
        return
    with _alone(them):
        copying.check()  # Another one may have ended since.
        with _progress(them, "copying"):
            copying.copy()
        copying.note()
    copied, removed = copying.copied, them.removed
    click.echo(f"{copied} rights and tokens were copied, {removed} removed: all is there")


def _finish(them: Parties, finishing: Finishing, *, dry: bool) -> None:
    move = finishing.check(dry=dry)
    if dry:
        with _progress(them, "looking"):
            finishing.sweep(move, dry=True)
        removed, stay = them.removed, finishing.waiting
        click.echo(f"{removed} rights and tokens would be removed, {stay} stay for now")
        return
    with _alone(them):
        if shares := finishing.begin_share(move):
            click.echo(f"waiting until all nodes know of {', '.join(shares)} …", err=True)
            finishing.wait(shares, partial(click.echo, err=True), time.sleep)
        with _progress(them, "removing"):
            finishing.sweep(move)
        if finishing.waiting:
            raise Refused(
                f"{them.removed} rights and tokens were removed; {finishing.waiting} stay, as"
                " messages of their channels are retained where they were: do it again later"
            )
        finishing.note(move)
    click.echo(f"{them.removed} rights and tokens were removed: nothing moves any more")
