"""One connection in subscriber mode for several clients, each of which seems to have its own.

Commands of clients come in, and answers and messages of Redis; what goes out is collected, for
Redis in :meth:`Multiplexer.commands` and for each client in its `out`. Nothing here does I/O.

To a client everything happens in the order that Redis would give it. A command takes effect at one
place of what Redis sends: a SUBSCRIBE where all its names are subscribed to, a PING where that of
ours is answered which was sent after it. Commands of a client take effect one after the other.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from sinapse.ear import answers
from sinapse.ear.interest import Asked, Client, Command, Kind, Name

#: Names in one UNSUBSCRIBE: Redis handles each command whole.
NAMES_PER_COMMAND = 1000

#: What Redis says when its ACL denies a channel; nothing of the command was done then.
_DENIED = "NOPERM"

_PING = b"PING"


class Broken(Exception):
    """Redis has refused what nobody can do without: the connection is of no use any more."""


class NotUnderstood(Exception):
    """What a client has sent is no command of a subscriber."""


class Multiplexer:
    """The connection, from the first command until it is lost."""

    def __init__(self) -> None:
        self._channels = Kind("")
        self._patterns = Kind("p")
        self._asked: deque[Asked] = deque()
        self._commands: list[tuple[bytes, ...]] = []
        #: Names in which nobody may be interested any more, and who waits for the next PING.
        self._unwanted: dict[Name, None] = {}
        self._pinging: list[Command] = []

    # Clients

    def join(self) -> Client:
        """Return a new client, which is subscribed to nothing."""
        return Client()

    def leave(self, client: Client) -> None:
        """Forget a client, its subscriptions, and what it has asked for."""
        for command in client.commands:
            self._give_up(command, "")
        client.commands.clear()
        for name in client.names:
            del name.clients[client]
            self._release(name)
        client.names.clear()

    def ask(self, client: Client, words: Sequence[bytes]) -> None:
        """Take a command of a client; raises :class:`NotUnderstood`."""
        verb, names = words[0].upper(), words[1:]
        if verb == _PING and not names:
            command = Command(client, verb)
            command.is_pinging = True
            self._pinging.append(command)
            client.commands.append(command)
            return
        kind = self._patterns if verb.startswith(b"P") else self._channels
        word = verb.lower()
        if not names or word not in (kind.subscribe, kind.unsubscribe):
            raise NotUnderstood(repr(verb[:20]))
        command = Command(client, word, kind)
        for text in names:
            name = kind.names.get(text)
            if name is None:
                name = kind.names[text] = Name(kind, text)
            command.names.append(name)
            # Until it has taken effect, a command to unsubscribe keeps what it names.
            name.interest += 1
        if word == kind.subscribe:
            for name in command.names:
                if not name.is_held:
                    command.missing[name] = None
                    name.waiting[command] = None
            self._subscribe(command)
        client.commands.append(command)
        self._go_on(client)

    def _go_on(self, client: Client) -> None:
        """Let commands take effect as far as they can."""
        commands = client.commands
        while commands and commands[0].can_take_effect:
            self._take_effect(client, commands.popleft())

    def _take_effect(self, client: Client, command: Command) -> None:
        kind, out = command.kind, client.out
        if command.error is not None:
            out.append(answers.error(command.error))
        elif kind is None:
            out.append(answers.PONG if client.names else answers.PLAIN_PONG)
        else:
            is_subscribing = command.verb == kind.subscribe
            for name in command.names:
                if (name in client.names) != is_subscribing:
                    if is_subscribing:
                        client.names[name] = name.clients[client] = None
                    else:
                        del client.names[name], name.clients[client]
                        self._release(name)
                        self._release(name)
                else:
                    self._release(name)
                out.append(answers.confirmation(command.verb, name.text, len(client.names)))

    def _give_up(self, command: Command, error: str) -> None:
        """Let a command have no effect, but the error that its client gets."""
        if command.error is not None:
            return
        command.error = error
        for name in command.missing:
            del name.waiting[command]
        command.missing.clear()
        for name in command.names:
            self._release(name)
        command.names.clear()

    def _release(self, name: Name) -> None:
        name.interest -= 1
        if not name.interest:
            self._unwanted[name] = None

    # To Redis

    def commands(self) -> list[tuple[bytes, ...]]:
        """Return what Redis is to be asked now, and forget it: call this at the end of a turn.

        All who ping in a turn share one PING, and channels that nobody wants go together.
        """
        dropped = self._dropped()
        for start in range(0, len(dropped), NAMES_PER_COMMAND):
            some = dropped[start : start + NAMES_PER_COMMAND]
            self._asked.append(Asked((), len(some), ()))
            self._commands.append((self._channels.unsubscribe.upper(), *some))
        if self._pinging:
            self._asked.append(Asked((), 1, self._pinging))
            self._commands.append((_PING,))
            self._pinging = []
        commands, self._commands = self._commands, []
        return commands

    def _dropped(self) -> list[bytes]:
        """Forget what nobody is interested in, and return the channels to unsubscribe from.

        A pattern that Redis has confirmed is kept: there is one, which every client comes back to,
        and a user of Redis needs no permission to unsubscribe from it.
        """
        unwanted, self._unwanted = self._unwanted, {}
        dropped = []
        for name in unwanted:
            if name.interest or name.is_asked or (name.is_held and name.kind is self._patterns):
                continue
            del name.kind.names[name.text]
            if name.is_held:
                name.is_held = False
                dropped.append(name.text)
        return dropped

    def _subscribe(self, command: Command) -> None:
        """Ask for those names of a command that nobody has asked for yet."""
        names = [name for name in command.missing if not name.is_asked]
        if names:
            for name in names:
                name.is_asked = True
            self._asked.append(Asked(names, len(names), (command,)))
            verb = names[0].kind.subscribe.upper()
            self._commands.append((verb, *(name.text for name in names)))

    # From Redis

    def hear(self, reply: Any) -> None:
        """Take what Redis has sent, an exception for an error; raises :class:`Broken`."""
        if type(reply) is list:
            kind = reply[0]
            if kind == b"message":
                name = self._channels.names.get(reply[1])
                if name is not None and name.clients:
                    _hand_on(answers.message(reply[1], reply[2]), name.clients)
                return
            if kind == b"pmessage":
                name = self._patterns.names.get(reply[1])
                if name is not None and name.clients:
                    _hand_on(answers.message_of_pattern(reply[1], reply[2], reply[3]), name.clients)
                return
        self._answered(reply)

    def _answered(self, reply: Any) -> None:
        """Take the answer to the first of our commands, or one of its answers."""
        if not self._asked:
            raise Broken(str(reply))
        asked = self._asked[0]
        if isinstance(reply, Exception):
            self._refused(asked, str(reply))
            return
        asked.left -= 1
        if asked.names:
            self._confirmed(asked.names[-1 - asked.left])
        if not asked.left:
            self._asked.popleft()
            if not asked.names:
                for command in asked.commands:
                    command.is_pinging = False
                    self._go_on(command.client)

    def _confirmed(self, name: Name) -> None:
        name.is_asked, name.is_held = False, True
        waiting, name.waiting = name.waiting, {}
        if not name.interest:
            self._unwanted[name] = None
        for command in waiting:
            del command.missing[name]
            self._go_on(command.client)

    def _refused(self, asked: Asked, error: str) -> None:
        """Refuse a command of a client as Redis does ours: it was made of names of that one.

        Others may wait for some of these names, and not for the one that is denied: theirs are
        asked for again.
        """
        if not asked.names or not error.startswith(_DENIED):
            raise Broken(error)
        self._asked.popleft()
        (refused,) = asked.commands
        for name in asked.names:
            name.is_asked = False
            if not name.interest:
                self._unwanted[name] = None
        self._give_up(refused, error)
        for command in _waiting_for(asked.names):
            self._subscribe(command)
        self._go_on(refused.client)


def _hand_on(data: bytes, clients: Iterable[Client]) -> None:
    for client in clients:
        client.out.append(data)


def _waiting_for(names: Iterable[Name]) -> dict[Command, None]:
    return {command: None for name in names for command in name.waiting}
