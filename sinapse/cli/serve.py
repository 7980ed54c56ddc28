"""``sinapse serve``: what ``twistd --nodaemon sinapse`` does, without a pid file."""

import sys

import click


@click.command("serve", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def command(options: tuple[str, ...]) -> None:
    """Run the daemon in the foreground: serve --help lists its options."""
    # Imported here because only this command needs Twisted.
    if "--help" in options:
        from sinapse.service import Options  # noqa: PLC0415

        daemon = Options()
        daemon.synopsis = "Usage: sinapse serve [options]"
        click.echo(daemon)
        return
    from twisted.scripts import twistd  # noqa: PLC0415

    sys.argv = ["sinapse serve", "--nodaemon", "--pidfile=", "sinapse", *options]
    twistd.run()
