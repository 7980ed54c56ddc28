"""Who takes gzip, by Accept-Encoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.web.encodings import MAX_ELEMENTS, accepts_gzip


@pytest.mark.parametrize(
    "field",
    [
        b"gzip",
        b"GZip",
        b"x-gzip",
        b"gzip, deflate, br, zstd",  # Browsers.
        b"deflate, gzip, br, zstd",  # curl.
        b"br;q=1.0, gzip;q=0.8, *;q=0.1",
        b"compress;q=0.5, gzip;q=1.000",
        b"gzip;q=0.001",
        b"gzip ; q=0.5",
        b"gzip;Q=1",
        b"*",
        b"*;q=0.5",
        b"gzip, *;q=0",
        b"identity;q=0.5, gzip",
        b"identity, gzip",
        b"identity;q=0, gzip;q=0.1",
        b", ,gzip,",
        b"\tgzip\t;\tq=1.\t",
        b"br;q=bad, gzip",
    ],
)
def test_these_do(field: bytes) -> None:
    assert accepts_gzip([field])


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"identity",
        b"deflate, br",
        b"gzip;q=0",
        b"gzip;q=0.000",
        b"gzip;q=0, *",
        b"*;q=0",
        b"identity, *;q=0",
        b"identity;q=1, gzip;q=0.5",
        b"identity, *;q=0.5",
        b"gzip2",
        b"not-gzip",
        b"gzip q=1",
        b"gzip;q=",
        b"gzip;q=2",
        b"gzip;q=1.001",
        b"gzip;q=0.0001",
        b"gzip;q=-1",
        b"gzip;q=nan",
        b"gzip;level=9",
        b'"gzip"',
        b"gzip\xff",
    ],
)
def test_these_do_not(field: bytes) -> None:
    assert not accepts_gzip([field])


def test_several_fields_are_one_list() -> None:
    assert not accepts_gzip([])
    assert accepts_gzip([b"br", b"gzip"])
    assert not accepts_gzip([b"gzip;q=0", b"*"])


def test_a_list_that_is_too_long_is_not_read() -> None:
    assert accepts_gzip([b",".join([b"br"] * (MAX_ELEMENTS - 1) + [b"gzip"])])
    assert not accepts_gzip([b",".join([b"br"] * MAX_ELEMENTS + [b"gzip"])])


CODINGS = st.sampled_from([b"gzip", b"identity", b"br", b"*"])
WEIGHTS = st.integers(0, 1000)


@given(st.dictionaries(CODINGS, WEIGHTS))
def test_it_is_what_the_weights_say(weights: dict[bytes, int]) -> None:
    elements = [b"%b;q=%d.%03d" % (name, *divmod(each, 1000)) for name, each in weights.items()]
    gzip = weights.get(b"gzip", weights.get(b"*", 0))
    expected = gzip > 0 and gzip >= weights.get(b"identity", 0)
    assert accepts_gzip([b", ".join(elements)]) == expected


@given(st.lists(st.binary() | st.text("gzip;q=01.,* \t").map(str.encode)))
def test_whatever_is_sent_is_answered(fields: list[bytes]) -> None:
    assert accepts_gzip(fields) in (True, False)
