"""Who is interested in what: clients, names, and commands that have not taken effect yet."""

from collections import deque
from collections.abc import Sequence


class Client:
    """One that shares the connection."""

    __slots__ = ("commands", "names", "out")

    def __init__(self) -> None:
        #: What is to be sent to it next.
        self.out: list[bytes] = []
        #: What has not taken effect yet, in order.
        self.commands: deque[Command] = deque()
        #: What it is subscribed to.
        self.names: dict[Name, None] = {}


class Kind:
    """Channels, or patterns."""

    def __init__(self, prefix: str) -> None:
        self.subscribe = f"{prefix}subscribe".encode()
        self.unsubscribe = f"{prefix}unsubscribe".encode()
        #: All that somebody is interested in, or was a moment ago.
        self.names: dict[bytes, Name] = {}


class Name:
    """A channel, or a pattern."""

    __slots__ = ("clients", "interest", "is_asked", "is_held", "kind", "text", "waiting")

    def __init__(self, kind: Kind, text: bytes) -> None:
        self.kind = kind
        self.text = text
        #: Who is subscribed to it.
        self.clients: dict[Client, None] = {}
        #: Commands that wait until Redis has confirmed it.
        self.waiting: dict[Command, None] = {}
        #: How many are subscribed to it, or have asked for that.
        self.interest = 0
        #: Whether Redis is asked for it, and whether it has confirmed it.
        self.is_asked = self.is_held = False


class Command:
    """A command of a client that has not taken effect yet."""

    __slots__ = ("client", "error", "is_pinging", "kind", "missing", "names", "verb")

    def __init__(self, client: Client, verb: bytes, kind: Kind | None = None) -> None:
        self.client = client
        self.verb = verb
        self.kind = kind
        #: To subscribe to; and those that Redis has not confirmed yet.
        self.names: list[Name] = []
        self.missing: dict[Name, None] = {}
        #: Whether a PING is not answered yet.
        self.is_pinging = False
        #: Why Redis refuses it.
        self.error: str | None = None

    @property
    def can_take_effect(self) -> bool:
        """Whether nothing of Redis is missing for it."""
        return not self.missing and not self.is_pinging


class Asked:
    """A command to Redis without all its answers: one for each name, or for those who ping."""

    __slots__ = ("commands", "left", "names")

    def __init__(self, names: Sequence[Name], count: int, commands: Sequence[Command]) -> None:
        #: To subscribe to.
        self.names = names
        self.left = count
        #: Whose commands it carries out.
        self.commands = commands
