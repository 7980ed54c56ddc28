"""The console command: ``sinapse serve``, ``sinapse demo``.

Neither loads Twisted or Flask before it must: ``--help`` is quick.
"""

import click

from sinapse import __version__
from sinapse.cli import demo, serve


@click.group()
@click.version_option(__version__, prog_name="Sinapse", message="%(prog)s %(version)s")
def main() -> None:
    """Push messages from a Python backend to browsers."""


main.add_command(serve.command)
main.add_command(demo.command)
