"""What an environment variable means that says yes or no."""


def is_on(text: str) -> bool:
    """Whether `text` means yes: anything but nothing, 0, false, no and off."""
    return text.strip().lower() not in ("", "0", "false", "no", "off")
