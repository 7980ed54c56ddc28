"""Narrow tokens: for a part of what their subject may listen to."""

#: What a prefix ends with.
ANY = "*"


class Only:
    """The channels that a token is for: names, and prefixes that end in ``*``.

    `text` has one on each line, as Redis keeps them; no name has a line feed in it.
    """

    __slots__ = ("_names", "_prefixes", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        lines = text.split(b"\n")
        any_ = ANY.encode()
        self._names = frozenset(line for line in lines if not line.endswith(any_))
        self._prefixes = tuple(line.removesuffix(any_) for line in lines if line.endswith(any_))

    def allows(self, channel: bytes) -> bool:
        """Whether a channel is one of them."""
        return channel in self._names or channel.startswith(self._prefixes)
