"""The one reading of REDIS_URL."""

from __future__ import annotations

import traceback
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.errors import BrokerUnavailable, InvalidPrefix
from sinapse.protocol.redislist import all_under, parse_all
from sinapse.protocol.redisurl import (
    DEFAULT_URL,
    MAX_SOCKET_PATH,
    RedisURL,
    from_environment,
)
from sinapse.protocol.sharding import State
from sinapse.publisher import Publisher
from tests.support import running_redis
from tests.support.prefixes import PREFIXES

READ = {
    "redis://localhost:6379/0": RedisURL(),
    "redis://": RedisURL(),
    "redis:///2": RedisURL(db=2),
    "redis://redis.example": RedisURL(host="redis.example"),
    "redis://redis.example:7000/3": RedisURL(host="redis.example", port=7000, db=3),
    "redis://redis.example/?db=4": RedisURL(host="redis.example", db=4),
    "redis://redis.example/3?db=4": RedisURL(host="redis.example", db=3),
    "redis://[::1]:7000": RedisURL(host="::1", port=7000),
    "redis://:secret@h": RedisURL(host="h", password="secret"),
    "redis://bob:p%40ss%2Fw%3Ard@h": RedisURL(host="h", username="bob", password="p@ss/w:rd"),
    "redis://:p@h": RedisURL(host="h", password="p"),
    "redis://:p@q@h": RedisURL(host="h", password="p@q"),
    "redis://:p\u2100\u00e9%C3%A9@h": RedisURL(host="h", password="p\u2100\u00e9\u00e9"),
    "redis://:p+q@h": RedisURL(host="h", password="p+q"),
    " redis://h\n": RedisURL(host="h"),
    "REDIS://h": RedisURL(host="h"),
    "rediss://h": RedisURL(host="h", tls=True),
    "unix:///run/redis.sock": RedisURL(path="/run/redis.sock"),
    "unix:///run/a%20b.sock?db=2": RedisURL(path="/run/a b.sock", db=2),
    "unix://bob:pw@/run/redis.sock": RedisURL(
        path="/run/redis.sock", username="bob", password="pw"
    ),
    "redis+sentinel://h/main": RedisURL(sentinels=(("h", 26379),), master="main"),
    "Redis+Sentinel://h/main": RedisURL(sentinels=(("h", 26379),), master="main"),
    "redis+sentinel://h/m?sentinel_password=p+q": RedisURL(
        sentinels=(("h", 26379),), master="m", sentinel_password="p+q"
    ),
    "redis+sentinel://h/m?sentinel_password=": RedisURL(sentinels=(("h", 26379),), master="m"),
    "redis+sentinel://h1:1,[::1],h3:3/a%2Fb/2": RedisURL(
        sentinels=(("h1", 1), ("::1", 26379), ("h3", 3)), master="a/b", db=2
    ),
    "redis+sentinel://bob:p%40@h/m?db=3&sentinel_username=eve&sentinel_password=q%40": RedisURL(
        sentinels=(("h", 26379),),
        master="m",
        db=3,
        username="bob",
        password="p@",
        sentinel_username="eve",
        sentinel_password="q@",
    ),
    "redis://h?prefix=staging:": RedisURL(host="h", prefix="staging:"),
    "redis://h/2?prefix=a%26b%23": RedisURL(host="h", db=2, prefix="a&b#"),
    "unix:///run/r.sock?db=1&prefix=a/b:": RedisURL(path="/run/r.sock", db=1, prefix="a/b:"),
    "redis+sentinel://h/m/1?prefix=a:": RedisURL(
        sentinels=(("h", 26379),), master="m", db=1, prefix="a:"
    ),
    "rediss+sentinel://h/m": RedisURL(sentinels=(("h", 26379),), master="m", tls=True),
    f"rediss://h?ssl_ca_certs={__file__}": RedisURL(host="h", tls=True, ca_certs=Path(__file__)),
    f"rediss+sentinel://h/m/1?ssl_ca_certs={__file__}": RedisURL(
        sentinels=(("h", 26379),), master="m", db=1, tls=True, ca_certs=Path(__file__)
    ),
}

REFUSED = {
    "": "scheme",
    "localhost:6379": "scheme",
    "http://localhost": "scheme",
    "redis:6379": "scheme",
    "redis:localhost": "scheme",
    "redis://bob@h": "password",
    "redis://bob:@h": "password",
    "redis+sentinel://bob@h/m": "password",
    "redis+sentinel://h/m?sentinel_username=bob": "password",
    "redis://:p%h@h": "percent-encoded",
    "redis://:p%FF@h": "percent-encoded",
    "unix:///run/a%zz.sock": "percent-encoded",
    "redis://:p\nq@h": "percent-encoded",
    "redis://:p\udcff@h": "percent-encoded",
    "unix:///run/a#b.sock": "percent-encoded",
    "unix:///run/a@b.sock": "percent-encoded",
    "redis://h/0#1": "percent-encoded",
    "redis://h?timeout=1": "the options are",
    "redis://h?db=1&": "the options are",
    "redis://h?sentinel_password=p": "the options are",
    "rediss://h?ssl_certfile=/c.pem": "the options are",
    "unix:///run/r.sock?password=p": "the options are",
    "redis://h:0": "port",
    "redis://h:65536": "port",
    "redis://h:-1": "port",
    "redis://h:six": "port",
    "redis://[::1": "cannot be read",
    "redis://h/one": "database",
    "redis://h/-1": "database",
    "redis://h/0/1": "database",
    "redis://h/²": "database",
    "unix://run/redis.sock": "UNIX socket",
    "unix://": "UNIX socket",
    "redis+sentinel://h": "name of the master",
    "redis+sentinel://h//0": "name of the master",
    "redis+sentinel://h/m%0Am/0": "name of the master",
    "unix:///run/%00.sock": "NUL",
    "unix:///" + "x" * MAX_SOCKET_PATH: "over 103 bytes",
    "unix:///" + "%C3%A9" * 52: "over 103 bytes",
    "redis+sentinel:///m": "host:port,host:port",
    "redis+sentinel://h,,h/m": "host:port,host:port",
    "redis+sentinel://h:0/m": "port",
    "redis+sentinel://h:six/m": "port",
    "redis+sentinel://[::1/m": "cannot be read",
    "redis+sentinel://h/m/one": "database",
    "redis+unix://h/m": "scheme",
    "rediss://h?ssl_ca_certs=/not/there": "is not there",
    "rediss://h?ssl_ca_certs=": "is not there",
    "rediss://h?ssl_ca_certs=/": "is not there",
    "rediss://h?ssl_ca_certs=/" + "x" * 300: "is not there",
    "redis://h?ssl_ca_certs=/not/there": "with rediss ssl_ca_certs",
    "redis+sentinel://h/m?ssl_ca_certs=/not/there": "with rediss ssl_ca_certs",
    "embedded:": "folder",
    "embedded:/a\nb": "printable",
    "embedded:/a\udcffb": "printable",
    "embedded:/" + "x" * MAX_SOCKET_PATH: "over 103 bytes",
    "embedded:~nobody-of-that-name/x": "home folder",
}


@pytest.mark.parametrize(("text", "url"), READ.items(), ids=READ)
def test_what_is_read(text: str, url: RedisURL) -> None:
    assert RedisURL.parse(text) == url


@pytest.mark.parametrize(("text", "reason"), REFUSED.items(), ids=lambda each: each[:40])
def test_what_is_refused_and_why(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RedisURL.parse(text)


def test_a_folder_stands_for_the_socket_in_it() -> None:
    url = RedisURL.parse("embedded:/var/lib/sinapse")
    assert url.embedded == Path("/var/lib/sinapse")
    assert url.path == "/var/lib/sinapse/valkey.sock"
    assert str(url) == "embedded:/var/lib/sinapse"


def test_a_folder_is_relative_to_where_we_are_or_to_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/bob")
    assert RedisURL.parse("embedded:data").embedded == tmp_path / "data"
    assert RedisURL.parse("embedded:~/data").embedded == Path("/home/bob/data")


def test_the_longest_socket_path_still_fits() -> None:
    folder = "/" + "x" * (MAX_SOCKET_PATH - len("//valkey.sock"))
    path = RedisURL.parse("embedded:" + folder).path
    assert path is not None
    assert len(path) == MAX_SOCKET_PATH


@pytest.mark.parametrize(
    "text",
    [
        "redis://bob:secret@h:7000/1",
        "rediss://:secret@[::1]:7000/1",
        "unix://bob:secret@/run/redis.sock?db=2",
        "redis+sentinel://bob:secret@h/m?sentinel_password=secret",
    ],
)
def test_neither_text_nor_repr_has_the_password(text: str) -> None:
    url = RedisURL.parse(text)
    assert url.password == "secret"
    assert "secret" not in str(url)
    assert "secret" not in repr(url)


@pytest.mark.parametrize(
    "text",
    [
        "redis://:secret@h:port",
        "redis://:secret@[h",
        "redis+sentinel://:secret@h:port/m",
        "redis+sentinel://:secret@h,[h/m",
        "redis://:sec%ret@h",
        "redis://:sec\nret@h",
    ],
)
def test_no_error_quotes_the_password(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be read") as raised:
        RedisURL.parse(text)
    assert "sec" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize("mark", ["/", "?", "#", "//", "/?", "?#", "/@", "@/"])
@pytest.mark.parametrize(
    "text",
    [
        # What is before the mark looks like a port or a host, what is after it like anything.
        "redis://:12{}34@h:6379/0",
        "redis://bob:12{}34@h",
        "rediss://:sec{}34@h:6379",
        "redis://:{}12@h",
        "redis://:12{}@h",
        "unix://:12{}34@/run/redis.sock",
        "unix://:12{}@/run/redis.sock",
        "redis+sentinel://bob:12{}34@h/m/0",
        "redis+sentinel://bob:12{}34@h,h/m",
        "redis+sentinel://:sec{}m@h:1,h:2/m",
    ],
)
def test_a_password_that_is_not_encoded_is_refused_and_not_shown(text: str, mark: str) -> None:
    with pytest.raises(ValueError, match="password must be percent-encoded") as raised:
        RedisURL.parse(text.format(mark))
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    for part in ("12", "34", "sec", "bob"):
        assert part not in str(raised.value)


@given(
    st.sampled_from(
        [
            ("redis://{}:{}@h:7/1", "redis://h:7/1"),
            ("rediss://{}:{}@h", "rediss://h:6379/0"),
            ("redis://{}:{}@h?db=1", "redis://h:6379/1"),
            ("unix://{}:{}@/r.sock", "unix:///r.sock?db=0"),
            ("redis+sentinel://{}:{}@h,h:1/m/1", "redis+sentinel://h:26379,h:1/m/1"),
        ]
    ),
    st.sampled_from(["", "bob"]),
    st.text(alphabet="a1/?#@:%&=,.[]", max_size=6),
)
def test_whatever_the_password_it_is_read_whole_or_refused(
    forms: tuple[str, str], username: str, password: str
) -> None:
    text, shown = forms
    try:
        url = RedisURL.parse(text.format(username, password))
    except ValueError as error:
        assert any(mark in password for mark in "/?#%@") or (username and not password)
        assert len(password) < 4 or password not in str(error)  # noqa: PT017
        return
    assert (url.username or "", url.password or "") == (username, unquote(password))
    assert str(url) == shown


@given(st.text(alphabet="a1/?#@:%&=,.[]+", min_size=1, max_size=6))
def test_whatever_the_password_for_sentinels_it_is_read_whole_or_refused(password: str) -> None:
    try:
        url = RedisURL.parse(f"redis+sentinel://h/m?sentinel_password={password}")
    except ValueError:
        assert any(mark in password for mark in "#%@&")
        return
    assert url.sentinel_password == unquote(password)
    assert str(url) == "redis+sentinel://h:26379/m/0"


def test_a_publisher_does_not_show_it_either(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "redis://bob:12?34@h"
    with pytest.raises(ValueError, match="percent-encoded") as raised:
        Publisher(text)
    assert "12" not in str(raised.value)
    monkeypatch.setenv("REDIS_URL", text)
    with pytest.raises(ValueError, match="percent-encoded"):
        Publisher()


def test_a_redis_that_quotes_the_password_is_not_quoted(tmp_path: Path) -> None:
    with (
        running_redis(tmp_path, "--rename-command", "AUTH", "") as server,
        Publisher(f"redis://bob:secret@127.0.0.1:{server.port}") as publisher,
        pytest.raises(BrokerUnavailable, match=r"unknown command 'AUTH'$") as raised,
    ):
        publisher.publish("room:1", "hello")
    assert raised.value.delivered is False
    assert "secret" not in "".join(traceback.format_exception(raised.value))


def test_nodes_and_sentinels_get_their_own_accounts() -> None:
    url = RedisURL.parse(
        f"rediss+sentinel://bob:p@h/m/2?sentinel_password=q&ssl_ca_certs={__file__}"
    )
    trusted = Path(__file__)
    assert url.node("n", 1) == RedisURL(
        host="n", port=1, db=2, username="bob", password="p", tls=True, ca_certs=trusted
    )
    assert url.sentinel("s", 2) == RedisURL(
        host="s", port=2, password="q", tls=True, ca_certs=trusted
    )


@given(
    st.sampled_from(["redis", "rediss"]),
    st.lists(
        st.tuples(st.sampled_from(["h", "127.0.0.1", "[::1]"]), st.integers(1, 65535)), min_size=1
    ),
    st.text(min_size=1).filter(str.isprintable),
    st.integers(0, 10**6),
)
def test_the_text_of_a_url_with_sentinels_reads_as_the_same(
    scheme: str, sentinels: list[tuple[str, int]], master: str, db: int
) -> None:
    hosts = ",".join(f"{host}:{port}" for host, port in sentinels)
    text = f"{scheme}+sentinel://{hosts}/{quote(master, safe='')}/{db}"
    assert str(RedisURL.parse(text)) == text


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    st.integers(0, 10**6),
)
def test_the_text_of_a_url_of_a_socket_reads_as_the_same(name: str, db: int) -> None:
    text = f"unix:///{quote(name)}?db={db}"
    url = RedisURL.parse(text)
    assert (url.path, url.db) == (f"/{name}", db)
    assert str(url) == text


@given(st.text(max_size=30))
def test_whatever_the_text_it_is_read_or_refused_in_one_line(text: str) -> None:
    for before in ("", "redis://", "redis+sentinel://", "unix://", "embedded:/"):
        try:
            shown = str(RedisURL.parse(before + text))
        except ValueError as error:
            shown = str(error)
        assert shown.isprintable()


@given(
    st.sampled_from(["redis", "rediss"]),
    st.sampled_from(["h", "127.0.0.1", "[::1]"]),
    st.integers(1, 65535),
    st.integers(0, 10**6),
)
def test_the_text_of_a_url_reads_as_the_same(scheme: str, host: str, port: int, db: int) -> None:
    text = f"{scheme}://{host}:{port}/{db}"
    assert str(RedisURL.parse(text)) == text


def test_the_environment_decides_unless_it_is_empty() -> None:
    assert from_environment({"REDIS_URL": "redis://h"}) == "redis://h"
    assert from_environment({"REDIS_URL": ""}) == DEFAULT_URL
    assert from_environment({}) == DEFAULT_URL


@given(PREFIXES)
def test_its_text_has_the_prefix(prefix: str) -> None:
    for text in ("redis://h/2", "unix:///r.sock?db=1", "redis+sentinel://h/m/0"):
        [url] = all_under(prefix, [RedisURL.parse(text)])
        assert url.names.prefix == prefix
        assert RedisURL.parse(str(url)) == url


@pytest.mark.parametrize(
    "prefix", ["", "none", "off", "a%7Bb%7D", "a{b}", "a%20b", "a*", "%C3%A9", "x" * 65, "sinapse:"]
)
@pytest.mark.parametrize("url", ["redis://:s3cr3t@h/0", "unix:///r.sock", "redis+sentinel://h/m"])
def test_what_is_no_prefix(url: str, prefix: str) -> None:
    with pytest.raises(InvalidPrefix, match=r"\Athe prefix must ") as raised:
        RedisURL.parse(f"{url}?prefix={prefix}")
    assert "s3cr3t" not in str(raised.value)


def test_the_nodes_that_sentinels_name_have_it_too() -> None:
    url = RedisURL.parse("redis+sentinel://h/m?prefix=a:")
    assert url.node("b", 1).names is url.names


@pytest.mark.parametrize(
    "url",
    [
        *("redis://h/0", "rediss://:p%3Dw@h/1?prefix=a:", "unix:///r.sock?db=1"),
        *("redis+sentinel://h,i/m/0?sentinel_password=a=b", "embedded:/var/a=b"),
    ],
)
@pytest.mark.parametrize("name", ["a", "7", "Berlin1"])
def test_a_name_stands_before_the_scheme(url: str, name: str) -> None:
    read = RedisURL.parse(f" {name}={url}")
    assert read == replace(RedisURL.parse(url), name=name)
    assert str(read) == f"{name}={RedisURL.parse(url)}"
    [also] = parse_all([f"{name}={url}"])
    assert also == read


@pytest.mark.parametrize("url", ["redis://h?prefix=a:", "unix:///a=b", "embedded:/a=b:c"])
def test_what_has_an_equals_sign_elsewhere_has_no_name(url: str) -> None:
    assert RedisURL.parse(url).name == ""


@pytest.mark.parametrize("name", ["", "a-b", "ä", "01", "x" * 17, "a b", "a_b"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"\Athe name of a Redis is 1 to 16 letters and digits"):
        RedisURL.parse(f"{name}=redis://:s3cr3t@h")


@pytest.mark.parametrize("text", ["a=b=redis://h", "s3cr3t=x@h:1/0", "a=h:1"])
def test_a_name_is_no_url(text: str) -> None:
    with pytest.raises(ValueError, match="scheme") as raised:
        RedisURL.parse(text)
    assert "s3cr3t" not in str(raised.value)


@pytest.mark.parametrize("url", ["redis://h:1/2", "unix:///r.sock?db=1", "redis+sentinel://h/m/0"])
@pytest.mark.parametrize("state", State)
def test_one_that_moves_says_so_in_its_url(url: str, state: State) -> None:
    text = f"{url}{'&' if '?' in url else '?'}prefix=own:&tokens=no&state={state}"
    read = RedisURL.parse(f"a={text}")
    assert (read.state, read.keeps_tokens, read.prefix) == (state, False, "own:")
    assert RedisURL.parse(str(read)) == read
    assert f"tokens=no&state={state}" in str(read)
