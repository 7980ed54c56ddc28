"""The options of listening sockets, which every socket that is accepted there has as well.

So they cost nothing for a connection. A peer that vanishes without a FIN or reset is found by the
kernel.
"""

import socket

#: Seconds: TCP keep-alive finds a dead peer after 60 + 3 * 15 s of silence, and data without an
#: acknowledgement end the connection after 60 s.
KEEPALIVE_IDLE = 60
KEEPALIVE_INTERVAL = 15
KEEPALIVE_PROBES = 3
USER_TIMEOUT = 60


def prepare(listening: socket.socket) -> None:
    """Send what is written at once, and find peers that have vanished, on what is accepted."""
    if listening.family not in (socket.AF_INET, socket.AF_INET6):
        return
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", USER_TIMEOUT * 1000),
    ):
        if hasattr(socket, option):  # Names differ between systems.
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
