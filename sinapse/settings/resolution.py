"""Settings from the command line and the environment."""

from collections.abc import Mapping, Sequence
from typing import Any

from sinapse.errors import StartError
from sinapse.protocol.redislist import all_under
from sinapse.settings.option import Option
from sinapse.settings.settings import OPTIONS, Settings


def is_link(option: Option, environment: Mapping[str, str]) -> bool:
    """Whether Kubernetes has set the variable of `option`, for a Service of our name.

    In every pod of the namespace of a Service ``sinapse``, ``SINAPSE_PORT`` is
    ``tcp://10.0.0.12:9000``, which is no endpoint.
    """
    return option.setting == "ports" and environment.get(option.variable, "").startswith("tcp://")


def resolve(given: Mapping[str, Sequence[str]], environment: Mapping[str, str]) -> Settings:
    """Make the settings of what the command line gave, by option name, and the environment.

    Raises :class:`~sinapse.errors.StartError`.
    """
    values: dict[str, Any] = {}
    for option in OPTIONS:
        if option.name in given:
            source, texts = f"--{option.name}", list(given[option.name])
        else:
            # An empty variable is one that somebody meant to unset.
            text = None if is_link(option, environment) else environment.get(option.variable)
            source, texts = option.variable, [text or option.default]
        try:
            values[option.setting] = option.read(texts)
        except ValueError as error:
            # A Redis URL may have a password in it.
            shown = "" if option.name == "redis" else f" {' '.join(texts)!r}"
            raise StartError(f"sinapse: {source}{shown}: {error}") from None
    try:
        values["redis"] = all_under(values["prefix"], values["redis"])
    except ValueError as error:
        raise StartError(f"sinapse: --prefix {values['prefix']!r}: {error}") from None
    settings = Settings(**values)
    if settings.cookie is not None and settings.origins.any:
        raise StartError(
            "sinapse: --cookie: any page could open streams in the name of its visitors;"
            " name the pages that may with --origin"
        )
    if settings.api is not None and settings.api_keys is None:
        raise StartError("sinapse: --api: name the file with its keys with --api-keys")
    for port in settings.ports:
        is_proxied = port.startswith("haproxy:") and not port.startswith("haproxy:unix:")
        if is_proxied and not settings.trusted_proxies:
            raise StartError(f"sinapse: --port {port!r}: name the proxies with --trusted-proxies")
    return settings
