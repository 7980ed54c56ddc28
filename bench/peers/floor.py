"""The floor: a C program that does nothing but one send() a stream and message.

It has a second form, which sends what one read brought at once: the most that the load client is
ever given to do.
"""

import contextlib
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from load import DATA, Publishing, Stream, compile_c

from peers.server import Peer, Running, Workload, free_port, launched

_EVENT = b"data: %b\n\n" % DATA
_CHUNK = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)


@contextlib.contextmanager
def _run(
    batching: bool, workload: Workload, folder: Path, cores: frozenset[int]
) -> Iterator[Running]:
    port, publishing_port = free_port(), free_port()
    numbers = (port, publishing_port, workload.channels, int(batching))
    command = [str(compile_c("floor")), *map(str, numbers)]
    streams = [
        Stream(f"/?c={','.join(map(str, channels))}", channels) for channels in workload.streams
    ]
    templates = [
        struct.pack("=II", number, len(_CHUNK)) + _CHUNK for number in range(workload.channels)
    ]
    with launched(command, folder, cores, port) as pid:
        yield Running(pid, port, streams, Publishing(publishing_port, templates, ""))


PEER = Peer("floor (C)", "a b c c2 c3 d f", partial(_run, False))
BATCHING = Peer("floor, batching", "b", partial(_run, True))
