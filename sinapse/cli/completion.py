"""``sinapse completion``: the Tab key in a shell."""

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print what SHELL needs to complete commands and options.

    For bash, in ~/.bashrc: eval "$(sinapse completion bash)"
    """
    completion = get_completion_class(shell)
    assert completion is not None  # noqa: S101  # Those of the choice are click's own.
    root = context.find_root().command
    click.echo(completion(root, {}, "sinapse", "_SINAPSE_COMPLETE").source())
