"""``sinapse serve``: what ``twistd --nodaemon sinapse`` does, without a pid file."""

import os
import sys
from collections.abc import Sequence

import click

from sinapse import __version__
from sinapse.errors import StartError
from sinapse.protocol.redisurl import DEFAULT_URL, RedisURL


@click.command("serve", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def command(options: tuple[str, ...]) -> None:
    """Run the daemon in the foreground: serve --help lists its options."""
    # Imported here because only this command needs Twisted.
    if "--help" in options:
        from sinapse.daemon.service import Options  # noqa: PLC0415

        daemon = Options()
        daemon.synopsis = "Usage: sinapse serve [options]"
        click.echo(daemon)
        return
    if sys.stderr.isatty():  # What collects a log wants nothing else.
        _say_what_runs(options)
    run(options)


def run(options: Sequence[str]) -> None:
    """Run the daemon until it ends."""
    from twisted.scripts import twistd  # noqa: PLC0415

    sys.argv = ["sinapse serve", "--nodaemon", "--pidfile=", "sinapse", *options]
    twistd.run()


def _say_what_runs(options: Sequence[str]) -> None:
    """Say where the daemon listens, and what to try next; the daemon itself reports errors."""
    from sinapse.daemon.service import Options  # noqa: PLC0415
    from sinapse.settings import resolve  # noqa: PLC0415
    from sinapse.sockets.listener import url  # noqa: PLC0415

    daemon = Options()
    try:
        daemon.parseOptions(list(options))
        settings = resolve(daemon.given, os.environ)
    except (StartError, SystemExit):  # A bad value; or --version, which has been printed.
        return
    redis = " ".join(map(str, settings.redis))  # Without passwords.
    places = " ".join(map(url, settings.ports))
    known = ""
    if any(each.username or each.password for each in settings.redis):
        known = "with the same REDIS_URL and SINAPSE_PREFIX, "
    elif settings.redis[0].embedded and settings.prefixes:  # Its URL has no place for a prefix.
        known = f"export REDIS_URL='{redis}' SINAPSE_PREFIX='{settings.prefixes}'; "
    elif redis != str(RedisURL.parse(DEFAULT_URL)):
        known = f"export REDIS_URL='{redis}'; "
    click.secho(
        f"Sinapse {__version__}: streams at {places}, Redis at {redis}", err=True, bold=True
    )
    click.echo(
        f"In another terminal: {known}sinapse channels add ada news; sinapse listen --subject ada\n"
        f"And in a third: {known}sinapse publish news hello. Nothing arrives? sinapse doctor",
        err=True,
    )
