"""The URL of the daemon, or of a relay, as given to a command."""

from urllib.parse import urlsplit

import click

from sinapse.environment import DAEMON_URL

#: Where a relay may serve its figures: ``--metrics 9110``.
RELAY_URL = "http://localhost:9110/metrics"


def daemon_url(text: str) -> str:
    """Return the complete URL of a daemon; ``localhost:9000`` is enough as `text`.

    Raises ``click.BadParameter`` for text that is no URL.
    """
    return _url(text, f"a daemon: write it like {DAEMON_URL}")


def relay_url(text: str) -> str:
    """Return the complete URL of a relay's figures, as `daemon_url` does."""
    return _url(text, f"a relay: write it like {RELAY_URL}")


def _url(text: str, what: str) -> str:
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # No port, or no address.
        is_one = False
    if not is_one or not url.isprintable() or " " in url:
        raise click.BadParameter(f"{text!r} is no URL of {what}")
    return url if parts.path else parts._replace(path="/").geturl()


#: The argument of commands that speak to a daemon.
url_argument = click.argument("url", default=DAEMON_URL, envvar="SINAPSE_URL", type=daemon_url)
