"""The daemon, put together: the only place that knows all the others.

``twistd sinapse`` finds :class:`Options` and :func:`makeService` here by way of the plugin.
Nothing that installs a reactor is imported before :func:`makeService`, so ``twistd --reactor``
has its say.
"""

import os
from typing import Any

from twisted.application.app import ServerOptions
from twisted.application.service import IService
from twisted.python import usage

from sinapse import __version__
from sinapse.errors import StartError
from sinapse.settings import OPTIONS, Option, resolve


class Options(usage.Options):
    """The command line of ``twistd sinapse``: the rows of :data:`sinapse.settings.OPTIONS`."""

    synopsis = "[options]"
    longdesc = "Every option can also be set in the environment; the command line wins."

    def __init__(self) -> None:
        #: Values by the name of the option, in the order given.
        self.given: dict[str, list[str]] = {}
        super().__init__()

    def parseOptions(self, options: Any = None) -> None:  # noqa: N802
        """Read the command line; raises :class:`~sinapse.errors.StartError`."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            # It quotes what was typed as it is, line breaks included.
            text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(error))
            raise StartError(f"sinapse: {text} (--help lists the options)") from None

    def postOptions(self) -> None:  # noqa: N802
        """Have twistd log in our way, unless it was told of another by ``--logger``."""
        if isinstance(self.parent, ServerOptions) and not self.parent.get("logger"):
            from sinapse.logs import choose  # noqa: PLC0415  # only what twistd runs needs it

            settings = resolve(self.given, os.environ)
            choose(self.parent, settings.log_level, settings.log_format)

    def parseArgs(self, *arguments: str) -> None:  # noqa: N802
        """Refuse what is no option."""
        if arguments:
            raise usage.UsageError(f"unexpected argument {arguments[0]!r}")

    def opt_version(self) -> None:
        """Print the version, and exit."""
        print(f"Sinapse {__version__}")  # noqa: T201
        raise SystemExit(0)


def _add(option: Option) -> None:
    """Add a row of the table, the way that :class:`usage.Options` finds options."""

    def flag(self: Options) -> None:
        self.given[option.name] = ["1"]

    def parameter(self: Options, value: str) -> None:
        self.given.setdefault(option.name, []).append(value)

    method = flag if option.is_flag else parameter
    default = "" if option.is_flag else f", default {option.default}"
    method.__doc__ = f"{option.help} [{option.variable}{default}]"
    setattr(Options, f"opt_{option.name.replace('-', '_')}", method)
    if option.short:
        setattr(Options, f"opt_{option.short}", method)


for _option in OPTIONS:
    _add(_option)


def makeService(options: Options) -> IService:  # noqa: N802
    """Return the daemon; raises :class:`~sinapse.errors.StartError`."""
    settings = resolve(options.given, os.environ)
    from sinapse.daemon import Daemon  # noqa: PLC0415  # imports the reactor

    return Daemon(settings)
