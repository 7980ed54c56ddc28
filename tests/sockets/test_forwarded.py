"""Who a client is behind proxies: those that are trusted are believed, and nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.sockets.forwarded import HEADERS, UNIX, UNKNOWN, TrustedProxies

PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8:ffff::1"])
PROXY = "10.0.0.1"

addresses = st.ip_addresses().map(str)


def by_list(*fields: str, peer: str = PROXY) -> str:
    return PROXIES.client(peer, [field.encode() for field in fields])


def by_standard(*fields: str) -> str:
    proxies = TrustedProxies(["10.0.0.0/8"], "Forwarded")
    return proxies.client(PROXY, [field.encode("latin-1") for field in fields])


def test_without_a_proxy_a_client_is_who_it_is() -> None:
    assert by_list("192.0.2.9", peer="192.0.2.1") == "192.0.2.1"
    assert TrustedProxies().client("127.0.0.1", [b"192.0.2.9"]) == "127.0.0.1"


@given(made_up=st.lists(st.text(max_size=20).map(lambda text: text.replace(",", ""))))
def test_what_a_client_makes_up_stands_too_far_left(made_up: list[str]) -> None:
    field = ", ".join([*made_up, "192.0.2.1"]).encode("utf-8", "replace")
    assert PROXIES.client(PROXY, [field]) == "192.0.2.1"


def test_several_proxies_may_stand_in_a_row() -> None:
    assert by_list("203.0.113.7, 192.0.2.1, 10.2.3.4", "2001:db8:ffff::1") == "192.0.2.1"


def test_if_all_are_trusted_it_is_the_first() -> None:
    assert by_list("10.9.9.9, 10.2.3.4") == "10.9.9.9"


def test_a_proxy_that_says_nothing_is_itself_the_client() -> None:
    assert by_list() == PROXY


def test_who_comes_by_a_unix_socket_is_believed() -> None:
    assert by_list("192.0.2.1", peer=UNIX) == "192.0.2.1"
    assert by_list(peer=UNIX) == UNIX


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1:4711", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:DB8:0::1]:443", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unknown", UNKNOWN),
        ("", UNKNOWN),
        ("192.0.2.256", UNKNOWN),
        ("\u0661.2.3.4", UNKNOWN),
        ("192.0.2.1 ", "192.0.2.1"),
    ],
)
def test_addresses_are_read_as_proxies_write_them(text: str, address: str) -> None:
    assert by_list(text) == address


@pytest.mark.parametrize(
    ("field", "address"),
    [
        ("for=192.0.2.1", "192.0.2.1"),
        ("For=192.0.2.1;proto=http;by=10.0.0.2", "192.0.2.1"),
        ('proto=https; for="[2001:db8::1]:4711"', "2001:db8::1"),
        ('for="192.0.2.1:1", for=10.0.0.3', "192.0.2.1"),
        ("for=_hidden", UNKNOWN),
        ("for=unknown", UNKNOWN),
        ("proto=http", UNKNOWN),
        ('for=203.0.113.7;secret="a, for=1", for=192.0.2.1', "192.0.2.1"),
        ('for="203.0.113.7, for=192.0.2.1', UNKNOWN),
        ("!", UNKNOWN),
    ],
)
def test_the_standard_field_is_read(field: str, address: str) -> None:
    assert by_standard(field) == address


@given(st.lists(st.binary(max_size=60), max_size=3), st.sampled_from(HEADERS))
def test_whatever_stands_in_the_field_there_is_an_answer(fields: list[bytes], header: str) -> None:
    proxies = TrustedProxies(["10.0.0.0/8"], header)
    client = proxies.client(PROXY, fields)
    assert proxies.trusts(client) == (proxies.counted(client) is None)


class TestCounting:
    """What limits by address go by."""

    @given(addresses)
    def test_trusted_proxies_are_not_counted(self, address: str) -> None:
        proxies = TrustedProxies([address])
        assert proxies.counted(address) is None
        assert proxies.counted(UNIX) is None

    def test_an_ipv6_network_counts_as_one(self) -> None:
        proxies = TrustedProxies()
        assert proxies.counted("2001:db8:0:1:2::3") == proxies.counted("2001:db8:0:1:ffff::")
        assert proxies.counted("2001:db8:0:1::") != proxies.counted("2001:db8:0:2::")

    def test_an_ipv4_address_counts_as_itself(self) -> None:
        assert TrustedProxies().counted("192.0.2.1") == "192.0.2.1"

    def test_those_that_a_proxy_does_not_name_count_as_one(self) -> None:
        assert PROXIES.counted(by_list("unknown")) == UNKNOWN


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "10.0.0.1/8", "proxy", "", "::/129"])
def test_what_is_no_network_is_refused(entry: str) -> None:
    with pytest.raises(ValueError):
        TrustedProxies([entry])
