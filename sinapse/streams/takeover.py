"""The moment in which a request becomes a stream.

The transport moves to a connection, and the request and its channel are cut off: so an idle stream
costs its connection, its transport and its socket only.
"""

from typing import Any

from twisted.internet import tcp
from twisted.web.http import Request

from sinapse.framing.eventstream import EventStream
from sinapse.framing.websocket import WebSocket
from sinapse.streams.connection import Connection, Owner
from sinapse.streams.socketconnection import SocketConnection
from sinapse.streams.transportconnection import TransportConnection
from sinapse.streams.websocketpeer import WebSocketPeer


def take_over(
    request: Request,
    owner: Owner,
    framing: EventStream | WebSocket,
    token: bytes,
    peer: WebSocketPeer | None = None,
) -> Connection:
    """Make a connection from the transport of `request`, which nothing may use afterwards.

    The request must be complete, and have no answer yet.
    """
    parts: Any = request
    transport = parts.channel.hand_over()
    request.notifications.clear()
    parts.channel = parts.transport = parts.content = None
    plain = isinstance(transport, tcp.Connection) and not transport.TLS
    kind = SocketConnection if plain else TransportConnection
    connection: Connection = kind(owner, framing, token, peer)
    connection.makeConnection(transport)
    return connection
