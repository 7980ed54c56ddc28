"""Peers that have vanished without a FIN or reset: the kernel finds them."""

import socket

#: Seconds: TCP keep-alive finds a dead peer after 60 + 3 * 15 s of silence, and data without an
#: acknowledgement end the connection after 60 s.
KEEPALIVE_IDLE = 60
KEEPALIVE_INTERVAL = 15
KEEPALIVE_PROBES = 3
USER_TIMEOUT = 60


def find_dead_peers(handle: socket.socket) -> None:
    """Let the kernel find a peer that has vanished without a FIN or reset."""
    if handle.family not in (socket.AF_INET, socket.AF_INET6):
        return
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", USER_TIMEOUT * 1000),
    ):
        if hasattr(socket, option):  # Names differ between systems.
            handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
