"""What both sides read in the environment."""

#: Where ``sinapse serve`` listens on a developer's machine, if ``SINAPSE_URL`` says nothing.
DAEMON_URL = "http://localhost:9000/"


def is_on(text: str) -> bool:
    """Whether `text` means yes: anything but nothing, 0, false, no and off."""
    return text.strip().lower() not in ("", "0", "false", "no", "off")
