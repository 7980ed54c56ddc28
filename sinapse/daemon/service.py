"""The service that ``twistd`` and ``sinapse serve`` run: a daemon of some settings.

``twistd sinapse`` finds :class:`Options` and :func:`makeService` here by way of the plugin.
Nothing that installs a reactor is imported before :func:`makeService`, so ``twistd --reactor``
has its say.
"""

import os
import time
from typing import Any

from twisted.application.app import ServerOptions
from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from sinapse import __version__
from sinapse.daemon.workers.inheritance import EAR, Inheritance
from sinapse.errors import StartError
from sinapse.settings import OPTIONS, Option, groups, is_link, resolve


class Options(usage.Options):
    """The command line of ``twistd sinapse``: the rows of :data:`sinapse.settings.OPTIONS`."""

    synopsis = "[options]"

    def __init__(self) -> None:
        #: Values by the name of the option, in the order given.
        self.given: dict[str, list[str]] = {}
        super().__init__()

    def command_line(self) -> list[str]:
        """Return the options again, for the command line of a worker."""
        flags = {option.name for option in OPTIONS if option.is_flag}
        return [
            f"--{name}" if name in flags else f"--{name}={value}"
            for name, values in self.given.items()
            for value in values
        ]

    def parseOptions(self, options: Any = None) -> None:  # noqa: N802
        """Read the command line; raises :class:`~sinapse.errors.StartError`."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            # It quotes what was typed as it is, line breaks included.
            text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(error))
            raise StartError(f"sinapse: {text} (--help lists the options)") from None

    def postOptions(self) -> None:  # noqa: N802
        """Make twistd use our log, unless ``--logger`` names a different one."""
        if isinstance(self.parent, ServerOptions) and not self.parent.get("logger"):
            from sinapse.daemon.logs import choose  # noqa: PLC0415  # only what twistd runs needs it

            settings = resolve(self.given, os.environ)
            choose(self.parent, settings.log_level, settings.log_format)

    def parseArgs(self, *arguments: str) -> None:  # noqa: N802
        """Refuse arguments that are not options."""
        if arguments:
            raise usage.UsageError(f"unexpected argument {arguments[0]!r}")

    def getUsage(self, width: int | None = None) -> str:  # noqa: N802
        """Return the options in their order and groups; those of Twisted are in alphabetical."""
        # Imported here because only this needs it.
        from click import HelpFormatter  # noqa: PLC0415

        formatter = HelpFormatter(width=width or int(os.environ.get("COLUMNS", "80")))
        formatter.write_text(
            "Every option can also be set in the environment; the command line wins."
        )
        for title, options in groups():
            with formatter.section(title):
                formatter.write_dl([(_names(option), _explained(option)) for option in options])
        with formatter.section("Others"):
            formatter.write_dl(
                [(f"--{name}", self.docs[name].strip()) for name in ("help", "version")]
            )
        return formatter.getvalue()

    def opt_version(self) -> None:
        """Print the version, and exit."""
        print(f"Sinapse {__version__}")  # noqa: T201
        raise SystemExit(0)


def _names(option: Option) -> str:
    """Return what an option is called, with a ``=`` where a value follows."""
    names = f"--{option.name}" if option.is_flag else f"--{option.name}="
    return f"-{option.short}, {names}" if option.short else names


def _explained(option: Option) -> str:
    default = "" if option.is_flag else f", default {option.default}"
    return f"{option.help} [{option.variable}{default}]"


def _add(option: Option) -> None:
    """Add a row of the table, the way that :class:`usage.Options` finds options."""

    def flag(self: Options) -> None:
        self.given[option.name] = ["1"]

    def parameter(self: Options, value: str) -> None:
        self.given.setdefault(option.name, []).append(value)

    method = flag if option.is_flag else parameter
    method.__doc__ = _explained(option)
    setattr(Options, f"opt_{option.name.replace('-', '_')}", method)
    if option.short:
        setattr(Options, f"opt_{option.short}", method)


for _option in OPTIONS:
    _add(_option)


def _keep_time() -> None:
    """Have the reactor measure durations by a clock that is never set.

    By itself it goes by the time of day: set back by an hour, as by a time service or when a
    machine is resumed, that keeps expired tokens, dead connections and hung workers for an hour.
    Nothing is under way yet that was measured the other way.
    """
    from twisted.internet import reactor  # noqa: PLC0415  # twistd may have chosen one.

    clock: Any = reactor
    clock.seconds = time.monotonic


def makeService(options: Options) -> IService:  # noqa: N802
    """Return the daemon; raises :class:`~sinapse.errors.StartError`."""
    settings = resolve(options.given, os.environ)
    # Imported here because all of them import the reactor.
    from sinapse.daemon.internals import check  # noqa: PLC0415

    check()
    _keep_time()
    inheritance = Inheritance.take(os.environ)
    if inheritance is not None:
        if inheritance.label == EAR:
            from sinapse.daemon.workers.ear import make_ear  # noqa: PLC0415

            return make_ear(settings, inheritance)
        from sinapse.daemon.workers.worker import make_worker  # noqa: PLC0415

        return make_worker(settings, inheritance)
    for option in OPTIONS:
        if is_link(option, os.environ) and option.name not in options.given:
            Logger().warn(
                "{variable} {value!r} is passed over: Kubernetes sets it for a Service of that name"
                " (enableServiceLinks: false keeps it from that); --port says where to listen",
                variable=option.variable,
                value=os.environ[option.variable],
            )
    from sinapse.sockets.descriptors import raise_limit  # noqa: PLC0415

    raise_limit()
    if settings.workers > 1:
        from sinapse.daemon.workers.supervisor import Supervisor  # noqa: PLC0415

        chosen: str | None = None if options.parent is None else options.parent.get("reactor")
        reactor = [f"--reactor={chosen}"] if chosen else []
        return Supervisor(settings, reactor, options.command_line())
    from sinapse.daemon.daemon import Daemon  # noqa: PLC0415

    return Daemon(settings)
