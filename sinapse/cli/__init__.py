"""The console command: ``sinapse``, and what can come after it.

A command is imported when it is called, so that ``--help`` is quick. An error is one line, with
exit code 1; click exits with 2 if the command line is wrong, and 69 (``EX_UNAVAILABLE``) means that
Redis or the daemon did not answer.

``serve``       the daemon in the foreground
``demo``        the daemon and a chat
``token``       tokens
``session``     tokens of devices
``channels``    what subjects may listen to
``group``       who is in a group, and what its members may listen to
``publish``     publishing
``relay``       sending what waits in outboxes
``reshard``     a Redis joins the others, or leaves them
``history``     what is retained of a channel
``position``    how far all channels have got
``listen``      what is pushed to a browser
``ping``        how long messages take
``doctor``      what is wrong, and what to do
``checks``      what the doctor checks
``bench``       how fast it is on this machine
``completion``  completion in a shell
``publishing``  what commands that use Redis have in common
``address``     where the daemon is
``companion``   the daemon, for as long as a development server lives
``trial``       a stream of their own, for commands that try something out
"""

from importlib import import_module

import click

from sinapse import __version__

#: Commands by name, and what is said of them; each is ``command`` in the module of its name.
COMMANDS = {
    "serve": "Run the daemon in the foreground.",
    "demo": "Run the daemon and a chat.",
    "token": "Make, show and revoke tokens.",
    "session": "Open, list and end sessions: tokens of devices.",
    "channels": "Show and change what subjects may listen to.",
    "group": "Show and change groups, and their channels.",
    "publish": "Publish a message, or each line of standard input.",
    "relay": "Send what waits in the outbox of an application.",
    "reshard": "Let a Redis join the others, or leave them.",
    "history": "Print what is retained of a channel.",
    "position": "Print the id of now.",
    "listen": "Show what is pushed to a browser.",
    "ping": "Say how long messages take.",
    "doctor": "Say what is wrong, and what to do.",
    "bench": "Say how fast it is on this machine.",
    "completion": "Complete commands and options in a shell.",
}


class _Commands(click.Group):
    """The commands, each imported when it is called for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"{__name__}.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="Sinapse", message="%(prog)s %(version)s")
def main() -> None:
    """Push messages from a Python backend to browsers."""
