"""The floor: a C program that does nothing but one send() a stream and message."""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

from load import DATA, Publishing, Stream, compile_c

from peers.server import Peer, Running, Workload, free_port, launched

_EVENT = b"data: %b\n\n" % DATA
_CHUNK = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)


@contextlib.contextmanager
def _run(workload: Workload, folder: Path, cores: frozenset[int]) -> Iterator[Running]:
    port, publishing_port = free_port(), free_port()
    command = [str(compile_c("floor")), str(port), str(publishing_port), str(workload.channels)]
    streams = [
        Stream(f"/?c={','.join(map(str, channels))}", channels) for channels in workload.streams
    ]
    templates = [
        struct.pack("=II", number, len(_CHUNK)) + _CHUNK for number in range(workload.channels)
    ]
    with launched(command, folder, cores, port) as pid:
        yield Running(pid, port, streams, Publishing(publishing_port, templates, ""))


PEER = Peer("floor (C)", "abcdef", _run)
