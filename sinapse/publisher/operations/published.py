"""What is known of a message once it is published."""

from typing import Self


class Published(int):
    """How many nodes received a message, with its id."""

    id: str | None
    """Id of the message; None if it is not retained, and for several messages together."""

    def __new__(cls, nodes: int, id: str | None = None) -> Self:  # noqa: A002  # As a message has it.
        """Return the number `nodes`, with the `id` of the message."""
        published = super().__new__(cls, nodes)
        published.id = id
        return published

    def __str__(self) -> str:
        return int.__repr__(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}, id {self.id}>"
