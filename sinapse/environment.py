"""How both sides read the environment: words for yes and no, and where a daemon is by default."""

#: Where ``sinapse serve`` listens on a developer's machine, if ``SINAPSE_URL`` says nothing.
DAEMON_URL = "http://localhost:9000/"


def is_off(text: str) -> bool:
    """Whether `text` turns an option off: off or none."""
    return text.strip().lower() in ("off", "none")


def is_on(text: str) -> bool:
    """Whether `text` means yes: anything but nothing, 0, false, no, off and none."""
    return not is_off(text) and text.strip().lower() not in ("", "0", "false", "no")
