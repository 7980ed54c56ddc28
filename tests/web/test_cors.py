"""Which origins may connect, and what they are told."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinapse.web.cors import Origins, preflight_headers, response_headers


@pytest.mark.parametrize(
    ("entry", "allowed", "refused"),
    [
        ("*", ["https://example.com", "http://localhost:3000", "null", "file://"], []),
        # A host: both schemes, this port or the default one, and no other host.
        (
            "example.com",
            ["https://example.com", "http://example.com", "HTTPS://Example.COM"],
            [
                "https://www.example.com",
                "https://example.com.evil.org",
                "https://evilexample.com",
                "https://exampleXcom",
                "https://example.com:8080",
                "ftp://example.com",
                "example.com",
                "null",
                "",
            ],
        ),
        (
            "localhost:3000",
            ["http://localhost:3000", "https://localhost:3000"],
            ["http://localhost", "http://localhost:30000", "http://localhost:3001"],
        ),
        ("127.0.0.1", ["http://127.0.0.1"], ["http://127.0.0.11", "http://127a0.0.1"]),
        ("[::1]:3000", ["http://[::1]:3000"], ["http://[::1]", "http://::1:3000"]),
        ("my_host-1.example", ["http://my_host-1.example"], ["http://my_host-2.example"]),
        ("EXAMPLE.com", ["https://example.com"], ["https://example.org"]),
        # A full origin, with or without the slash that people copy along with it
        (
            "https://example.com",
            ["https://example.com", "https://EXAMPLE.com"],
            ["http://example.com", "https://example.com:8443", "https://example.com.evil.org"],
        ),
        ("https://example.com/", ["https://example.com"], ["https://example.com/"]),
        ("http://localhost:3000", ["http://localhost:3000"], ["https://localhost:3000"]),
        # A regular expression: the whole origin or the whole host
        (
            r"(.*\.)?example\.com",
            ["https://example.com", "http://a.example.com", "https://a.b.example.com"],
            ["https://evilexample.com", "https://example.com.evil.org", "https://example.com:81"],
        ),
        (
            r"https://.*\.example\.com",
            ["https://a.example.com", "https://A.Example.com"],
            ["http://a.example.com", "https://example.com", "https://a.example.com.evil.org"],
        ),
        (r"https://.*\.EXAMPLE\.com", ["https://a.example.com"], ["https://example.com"]),
        (r"^https://a\.b$", ["https://a.b"], ["https://a.bc"]),
        (r"a{2,3}\.example", ["http://aa.example", "http://aaa.example"], ["http://a.example"]),
        (r"localhost:\d+", ["http://localhost:1", "https://localhost:3000"], ["http://localhost"]),
        (r"one|two", ["http://one", "http://two"], ["http://onetwo", "http://onewo"]),
        (r"https?://(.+\.)?a\.b", ["http://a.b", "https://x.y.a.b"], ["https://xa.b"]),
        (r"[\].*+(|]?a[0-9]{4}(b|c)?\.d", ["http://a1234.d", "http://a1234b.d"], ["http://a1.d"]),
        # Of an application, whose scheme is its own
        ("capacitor://localhost", ["capacitor://localhost"], ["http://localhost"]),
        (
            "moz-extension://a.b:99/",
            ["moz-extension://a.b:99"],
            ["moz-extension://aXb:99", "moz-extension://a.b"],
        ),
    ],
)
def test_an_entry_allows_these_and_no_others(
    entry: str, allowed: list[str], refused: list[str]
) -> None:
    origins = Origins([entry])
    assert [each for each in allowed if not origins.allows(each.encode())] == []
    assert [each for each in refused if origins.allows(each.encode())] == []


@pytest.mark.parametrize("entry", ["https://*.example.com", "*.example.com"])
def test_a_star_stands_for_subdomains_and_nothing_else(entry: str) -> None:
    origins = Origins([entry])
    assert origins.allows(b"https://a.example.com")
    assert origins.allows(b"https://a.b.example.com")
    assert not origins.allows(b"https://xexample.com")
    assert not origins.allows(b"https://a.examplexcom")
    assert not origins.allows(b"https://example.com")
    assert not origins.allows(b"https://a.example.com.evil.org")
    assert origins.allows(b"http://a.example.com") is (entry[0] == "*")


@pytest.mark.parametrize(
    ("entry", "origin"),
    [("https://example.com:443", b"https://example.com"), ("http://a.b:80", b"http://a.b")],
)
def test_the_default_port_of_an_entry_does_not_matter(entry: str, origin: bytes) -> None:
    assert Origins([entry]).allows(origin)


@pytest.mark.parametrize(
    "entries",
    [
        ["a.org", "https://b.org", r".*\.c\.org"],
        ["a.org https://b.org", r".*\.c\.org"],
        ["a.org, https://b.org,.*\\.c\\.org"],
        [" a.org\thttps://b.org\n", "", r", .*\.c\.org ,"],
        [r"a.org,https://b.org,[a-z]{1,9}\.c\.org"],
    ],
)
def test_several_entries_stand_beside_each_other_or_are_given_one_by_one(
    entries: list[str],
) -> None:
    origins = Origins(entries)
    for allowed in (b"http://a.org", b"https://b.org", b"https://x.c.org"):
        assert origins.allows(allowed)
    for refused in (b"http://b.org", b"https://c.org", b"https://d.org"):
        assert not origins.allows(refused)


@given(st.text(max_size=20))
@settings(deadline=None)
def test_whatever_the_entry_it_is_read_or_refused_in_one_line(entry: str) -> None:
    try:
        Origins([entry])
    except ValueError as error:
        assert str(error).isprintable()  # noqa: PT017  # Most entries are fine.


def test_any_origin_beside_others_is_any_origin() -> None:
    assert Origins(["a.org *"]).allows(b"https://b.org")


def test_the_default_is_any_origin() -> None:
    assert Origins().allows(b"https://example.com")


@pytest.mark.parametrize("entries", [[], [""], [" , "]])
def test_no_entry_is_a_mistake(entries: list[str]) -> None:
    with pytest.raises(ValueError, match="no origin given"):
        Origins(entries)


@pytest.mark.parametrize(
    "entry",
    [
        "https://*.*.example.com",
        "*.*.example.com",
        "https://*example.com",
        "*example.com",
        "https://a.*.example.com",
        "a.*.example.com",
        "https://a*.example.com",
        "https://*",
        "http://*:3000",
        "https://example.*",
        "localhost:*",
        "*:3000",
        "[::1]:*",
        "**",
        "*://example.com",
        # A regular expression, where a dot is any letter: of evilexample.com as well
        ".*.example.com",
        "https://.*.example.com",
    ],
)
def test_a_star_anywhere_else_is_a_mistake(entry: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(repr(entry))} is .*escape"):
        Origins(["b.org", entry])


@pytest.mark.parametrize(
    "entry",
    [
        "https://*.(a|b).example.com",
        r"https://*\.example\.com",
        "https?://*.example.com",
        "(http|https)://*.example.com",
        r"https:\/\/*.example.com",
        "^https://*.example.com$",
    ],
)
def test_a_star_after_a_slash_is_a_mistake_in_a_regular_expression_too(entry: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(repr(entry))} is .*escape"):
        Origins(["b.org", entry])


@pytest.mark.parametrize(
    "entry",
    [
        "https://example.com/app",
        "https:/example.com",
        "https:example.com",
        "https://",
        "example.com:",
        "example.com:123456",
        "example..com",
        ".example.com",
        "https://m\u00fcller.example",
    ],
)
def test_what_no_browser_could_send_is_a_mistake(entry: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(repr(entry))} is "):
        Origins(["b.org", entry])


@pytest.mark.parametrize(
    "entry",
    [
        "https://(app|www).example.com",
        r"https://.*\.example.com",
        r"app.?\.example.com",
        r"https://(a|b).",
    ],
)
def test_a_dot_that_admits_other_hosts_is_a_mistake(entry: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(repr(entry))} has a dot .*write"):
        Origins(["b.org", entry])


@pytest.mark.parametrize(
    "entry",
    [
        r"(.+\.)*example\.com",
        r"https://(?:[a-z]+)+\.example\.com",
        r"((a|aa)b)*\.c",
        r"(a?){30}b",
        r"(?P<x>(\w*))+\.example\.com",
        r"https://([a-z]{1,9}){1,9}\.example\.com",
    ],
)
def test_repeats_of_repeats_are_a_mistake(entry: str) -> None:
    with pytest.raises(ValueError, match="can take very long"):
        Origins(["b.org", entry])


def test_a_few_repeats_beside_one_another_are_none() -> None:
    assert Origins([r".*-.*\.example\.com:\d+"]).allows(b"https://a-b.example.com:1")
    with pytest.raises(ValueError, match="more than 3 repeats"):
        Origins([r".*-.*-.*\.example\.com:\d+"])


@pytest.mark.parametrize("entry", ["*", r".*\.example\.com", "*.example.com"])
def test_what_is_longer_than_any_origin_is_none(entry: str) -> None:
    name = b".".join([b"a" * 49] * 5) + b".example.com"
    assert Origins([entry]).allows(b"https://" + name)
    assert not Origins([entry]).allows(b"https://" + b"a." * 50 + name)


HOSTS = st.from_regex(r"[a-z0-9-]{1,5}(\.[a-z0-9-]{1,5}){0,2}", fullmatch=True)


@given(
    before=st.sampled_from(["", "http://", "https://"]),
    text=st.text(alphabet="ab.*:/-", min_size=1, max_size=10),
    host=HOSTS,
)
@settings(deadline=None)
def test_of_letters_dots_and_stars_nothing_but_the_wildcard_admits_others(
    before: str, text: str, host: str
) -> None:
    entry = before + text
    try:
        origins = Origins([entry])
    except ValueError:
        return
    name = entry.removeprefix(before).removesuffix("/")
    if entry == "*":
        return
    is_allowed = origins.allows(f"https://{host}".encode())
    if name.startswith("*."):
        expected = host.endswith(name[1:]) and host != name[1:]
    else:
        expected = host == name
    assert is_allowed is (expected and before != "http://")


@pytest.mark.parametrize("entry", ["(", "[a", "a.org\\", "(?P<a", "a{99999999999}", "(" * 5000])
def test_what_is_no_regular_expression_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(repr(entry))} is not a regular expression"):
        Origins(["b.org", entry])


@given(origin=st.binary(max_size=40))
@settings(deadline=None)
def test_any_bytes_for_an_origin_are_just_not_allowed(origin: bytes) -> None:
    origins = Origins(["example.com", r"https://.*\.example\.org"])
    assert not origins.allows(origin)
    assert response_headers(origin, origins) == [(b"Vary", b"Origin")]


def test_letters_that_only_look_alike_are_another_origin() -> None:
    # The Kelvin sign is a k in lower case, in Unicode but not in a host.
    assert not Origins(["kiosk.org", r"[k]iosk\.org"]).allows("https://\u212aiosk.org".encode())


def test_an_allowed_origin_is_echoed_as_it_came() -> None:
    assert response_headers(b"https://Example.COM", Origins(["example.com"])) == [
        (b"Vary", b"Origin"),
        (b"Access-Control-Allow-Origin", b"https://Example.COM"),
        (b"Access-Control-Allow-Credentials", b"true"),
    ]


@pytest.mark.parametrize("origin", [None, b""])
def test_who_names_no_origin_is_told_none(origin: bytes | None) -> None:
    assert response_headers(origin, Origins(["*"])) == [(b"Vary", b"Origin")]


@pytest.mark.parametrize("origin", [None, b"", b"https://evil.org"])
def test_others_are_told_nothing_and_caches_that_it_depends(origin: bytes | None) -> None:
    assert response_headers(origin, Origins(["example.com"])) == [(b"Vary", b"Origin")]


def test_the_answer_to_a_preflight() -> None:
    assert preflight_headers(b"https://example.com") == [
        (b"Vary", b"Origin"),
        (b"Access-Control-Allow-Origin", b"https://example.com"),
        (b"Access-Control-Allow-Credentials", b"true"),
        (b"Access-Control-Allow-Methods", b"GET, HEAD, POST"),
        (
            b"Access-Control-Allow-Headers",
            b"Authorization, Cache-Control, Last-Event-ID, Sinapse-Stream",
        ),
        (b"Access-Control-Max-Age", b"7200"),
    ]


@pytest.mark.parametrize(
    "asked",
    [
        b"baggage, sentry-trace,x-datadog-origin",
        b"content-type,datastar-request,last-event-id",
        b"hx-current-url,hx-request,hx-request-type,hx-source",
        b"accept,cache-control,turbo-frame,x-csrftoken",
    ],
)
def test_a_preflight_is_told_that_it_may_send_what_means_nothing(asked: bytes) -> None:
    assert (b"Access-Control-Allow-Headers", asked) in preflight_headers(b"https://a.b", asked)


def test_a_preflight_that_asks_for_no_names_is_told_the_names_that_mean_something() -> None:
    for wrong in (b"", b",", b"a b", b"a\tb", b"a;b", b"a,,b"):
        fields = dict(preflight_headers(b"https://a.b", wrong))
        assert fields[b"Access-Control-Allow-Headers"].startswith(b"Authorization")
