"""Errors: whose fault it is, what is known about each, and why streams end."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close

from sinapse import errors
from sinapse.errors import (
    BrokerUnavailable,
    CloseReason,
    Incomplete,
    InvalidChannel,
    PublishError,
    ResetReason,
    SinapseError,
)
from tests.support import EVENT_TIMEOUT, PYTHON
from tests.support.daemon import ROOT

#: RFC 6455 §5.5: the payload of a close frame has at most 125 bytes, of which two are the code.
MAX_REASON = 125 - 2

#: Results of operations that were sent together, and whether each has been carried out: None if
#: nobody knows.
RESULTS = st.sampled_from(
    [
        (1, True),
        (None, True),
        (InvalidChannel("no name"), False),
        (BrokerUnavailable("refused", delivered=False), False),
        (BrokerUnavailable("no answer"), None),
        (Incomplete([BrokerUnavailable("refused", delivered=False)]), False),
        (Incomplete([1, BrokerUnavailable("refused", delivered=False)]), True),
    ]
)


def test_the_tree_at_the_head_has_every_exception_below_its_base() -> None:
    rows = re.findall(r"^    ([│├└─ ]*)(\w+)", errors.__doc__ or "", re.MULTILINE)
    path: list[str] = []
    shown = {}
    for indent, name in rows:
        path[len(indent) // 4 :] = [name]
        shown[name] = path[-2] if len(path) > 1 else None
    classes = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, SinapseError)
    }
    assert shown.keys() == classes.keys()
    for name, base in shown.items():
        assert base is None or classes[base] in classes[name].__bases__


def test_a_start_error_is_one_line_and_an_exit_that_twistd_can_catch() -> None:
    program = """
from sinapse.errors import StartError
try:
    raise StartError("port: 'x' is no port")
except Exception as error:
    raise error
"""
    ended = subprocess.run(
        [PYTHON, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=EVENT_TIMEOUT,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (1, "port: 'x' is no port\n")


def test_what_cannot_be_published_is_a_value_error() -> None:
    """So a form that asks for it can be answered as any wrong value is."""
    with pytest.raises(ValueError, match="no name"):
        raise InvalidChannel("no name")
    assert issubclass(PublishError, SinapseError)


@given(
    st.lists(RESULTS, min_size=1).filter(
        lambda them: any(isinstance(it[0], SinapseError) for it in them)
    )
)
def test_what_is_incomplete_was_surely_not_carried_out_only_if_nothing_was(
    outcomes: Sequence[tuple[object, bool | None]],
) -> None:
    results = [result for result, _ in outcomes]
    error = Incomplete(results)
    assert error.results == results
    none_was = all(done is False for _, done in outcomes)
    assert error.delivered is (False if none_was else None)
    failures = [result for result in results if isinstance(result, SinapseError)]
    assert str(error) == f"{len(failures)} of {len(results)} failed: {failures[0]}"


@pytest.mark.parametrize(
    "reason", [each for each in CloseReason if each is not CloseReason.CLIENT_GONE]
)
def test_why_a_stream_ends_can_be_said_in_a_close_frame(reason: CloseReason) -> None:
    Close(reason.code, reason.text).check()
    assert len(reason.text.encode()) <= MAX_REASON


def test_reasons_are_told_apart() -> None:
    texts = [reason.text for reason in CloseReason]
    assert len({*texts}) == len(texts) == len(CloseReason)
    ours = [reason.code for reason in CloseReason if reason.code >= 4000]
    assert len({*ours}) == len(ours)


def test_the_page_on_answers_has_every_close_code_and_that_on_delivery_every_reset() -> None:
    answers = (ROOT / "docs" / "answers.md").read_text()
    _, _, table = answers.partition("## Close codes")
    table, _, _ = table.partition("\n## ")
    cells = re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
    shown = {int(code) for cell in cells for code in cell.split(",")}
    never_sent = {CloseReason.CLIENT_GONE.code, CloseReason.ANSWERED.code}
    assert {reason.code for reason in CloseReason} - never_sent <= shown
    assert {code for code in shown if code >= 4000} <= {reason.code for reason in CloseReason}
    delivery = (ROOT / "docs" / "delivery.md").read_text()
    rows = re.findall(r"^\| `([a-z]+(?:-[a-z]+)+)` \|", delivery, re.MULTILINE)
    assert sorted(rows) == sorted(ResetReason)
