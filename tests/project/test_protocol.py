"""The page on the protocol says what the publisher does, to the byte."""

from __future__ import annotations

import re
from pathlib import Path

import hiredis

from sinapse.protocol import scripts
from sinapse.protocol.keys import hashed_token
from sinapse.protocol.message import Message, pack, pack_retained, unpack
from sinapse.protocol.names import PLAIN
from sinapse.publisher.operations.messages import Messages

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()

#: A row of the table of payloads: data, event type, bytes.
ROW = re.compile(
    r"^\| `(.+)` \| (?:`(.+)`)? ?\| `([0-9a-f]{2}(?: [0-9a-f]{2})*)` \|$", re.MULTILINE
)


def test_its_examples_are_what_is_written_and_read() -> None:
    rows = ROW.findall(PAGE)
    assert len(rows) == 5
    for data, event, payload in rows:
        message = Message(data, event or None)
        assert pack(message).hex(" ") == payload
        assert unpack(bytes.fromhex(payload)) == message


def test_its_message_for_all_but_one_stream_is_what_is_written_and_read() -> None:
    [(data, but, payload)] = re.findall(
        r"`(\w+)` for all but the stream `(\w+)` is\s`([0-9a-f ]+)`", PAGE
    )
    message = Message(data, but=but)
    assert pack(message).hex(" ") == payload
    assert unpack(bytes.fromhex(payload)) == message


def test_its_retained_message_is_what_is_written_and_read() -> None:
    [(data, text, payload)] = re.findall(
        r"message `(\w+)`\swith\sthe\sid\s`([0-9a-f]+-\d+)`\shas\sthe\spayload\s`([0-9a-f\s]+)`",
        PAGE,
    )
    written = pack_retained(Message(data)) + bytes([0xA0 + len(text)]) + text.encode()
    assert written == bytes.fromhex(payload)
    assert unpack(written) == Message(data, None, text)


def test_its_command_is_what_goes_over_the_wire() -> None:
    lines = re.findall(r"^    ((?:[0-9a-f]{2} )+)", PAGE, re.MULTILINE)
    command = bytes.fromhex("".join(lines))
    words = ("PUBLISH", "room:1", pack(Message("hello")))
    assert command == hiredis.pack_command(words)  # type: ignore[arg-type]  # its hint is wrong


def test_its_operands_are_those_of_a_message_whose_channel_has_a_past() -> None:
    rows = re.search(r"^\| operand \| bytes \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert rows is not None
    shown = re.findall(r"^\| .+ \| (?:`([0-9a-f ]+)`)? ?\|$", rows[1], re.MULTILINE)
    message = Messages({}, None, None, None).publish("room:1", "hello", replay=1)
    operands = message.request(PLAIN).operands
    assert [bytes.fromhex(each) for each in shown] == [
        each.encode() if isinstance(each, str) else each for each in operands
    ]


def test_its_scripts_are_those_that_run() -> None:
    shown = re.findall(r"^```lua\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    run = [each.source for each in vars(scripts).values() if isinstance(each, scripts.Script)]
    assert sorted(shown) == sorted(run)


def test_its_hash_of_a_token_is_what_is_looked_up() -> None:
    [(token, stored)] = re.findall(r"The token `(\w+)` would be `(sha256:[0-9a-f]{64})`", PAGE)
    assert hashed_token(token) == stored
