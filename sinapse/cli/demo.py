"""``sinapse demo``: the daemon and the chat, each a process of its own, until Ctrl-C."""

import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from stat import S_IWOTH

import click

import sinapse
from sinapse.child import (
    POLL_INTERVAL,
    Child,
    ChildFailed,
    daemon_command,
    find_redis,
    is_taken,
)
from sinapse.protocol.redisurl import EMBEDDED, RedisURL

DEFAULT_FOLDER = Path(".demo")

PORT = click.IntRange(1, 65535)

ANNOUNCEMENT = """
    The chat:    http://localhost:{port}/

    The daemon:  {sinapse_url}
    Redis:       {redis}
    Logs:        {folder}

    Open the chat in two browsers, or in a browser and in a private window of it, and sign in
    with two names. Ctrl-C ends everything.
"""


@click.command("demo")
@click.option("--port", default=3000, show_default=True, type=PORT, help="Port of the chat.")
@click.option(
    "--daemon-port", default=9000, show_default=True, type=PORT, help="Port of the daemon."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Folder for logs, and for the data of the private Redis.  [default: {DEFAULT_FOLDER}]",
)
def command(port: int, daemon_port: int, folder: Path | None) -> None:
    """Run the daemon and a chat until Ctrl-C.

    Redis is a private one, unless REDIS_URL says where it is.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    redis_url = os.environ.get("REDIS_URL")
    _check_packages(needs_redis=not redis_url)
    _check_ports(port, daemon_port)
    with ExitStack() as stack:
        try:
            folder = _usable_folder(folder, stack)
            redis_url = redis_url or f"{EMBEDDED}{folder.absolute()}"
            _run(stack, port, daemon_port, folder, redis_url)
        except KeyboardInterrupt:
            click.echo("\nEnding.")
        except ChildFailed as error:
            raise click.ClickException(str(error)) from None


def _run(stack: ExitStack, port: int, daemon_port: int, folder: Path, redis_url: str) -> None:
    click.echo("Starting the daemon and the chat.")
    sinapse_url = f"http://localhost:{daemon_port}/"
    environment = {**os.environ, "REDIS_URL": redis_url, "SINAPSE_URL": sinapse_url}

    log = folder / "daemon.log"
    serve = daemon_command(daemon_port)
    daemon = stack.enter_context(Child("The daemon", serve, environment, log))
    daemon.wait_until_answers(daemon_port, "/status")
    daemon.wait_until_answers(daemon_port, "/ready")

    script = [sys.executable, str(_chat()), "--host", "127.0.0.1", "--port", str(port)]
    log = folder / "chat.log"
    chat = stack.enter_context(Child("The chat", script, environment, log))
    chat.wait_until_answers(port, "/")

    redis = RedisURL.parse(redis_url)  # Its text has no password in it.
    click.echo(ANNOUNCEMENT.format(port=port, sinapse_url=sinapse_url, redis=redis, folder=folder))
    while True:
        daemon.check()
        chat.check()
        time.sleep(POLL_INTERVAL)


def _chat() -> Path:
    """Return the script: a part of the package where that is installed, beside it in a checkout."""
    package = Path(sinapse.__file__).parent
    installed = package / "example" / "chat.py"
    return installed if installed.exists() else package.parent / "example" / "chat.py"


def _check_ports(port: int, daemon_port: int) -> None:
    if port == daemon_port:
        raise click.ClickException(f"--port and --daemon-port are both {port}")
    for number, option in ((port, "--port"), (daemon_port, "--daemon-port")):
        if is_taken(number):
            raise click.ClickException(f"port {number} is taken: choose another one with {option}")


def _usable_folder(folder: Path | None, stack: ExitStack) -> Path:
    if folder is None:
        folder = DEFAULT_FOLDER
        try:
            RedisURL.parse(f"{EMBEDDED}{folder}")
        except ValueError:  # Here it is too long for the path of a socket.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sinapse-")))
    try:
        RedisURL.parse(f"{EMBEDDED}{folder}")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_shared = folder.stat().st_mode & S_IWOTH
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise click.ClickException(f"--folder {folder}: {reason}") from None
    if is_shared:
        raise click.ClickException(
            f"--folder {folder}: others may write there, and put links in the place of logs"
        )
    return folder


def _check_packages(*, needs_redis: bool) -> None:
    if find_spec("flask") is None or (needs_redis and find_redis() is None):
        raise click.ClickException("a few packages are missing: pip install 'sinapse-push[demo]'")
