"""The one reading of REDIS_URL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.redisurl import DEFAULT_URL, MAX_SOCKET_PATH, RedisURL, from_environment

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
    "redis://bob@h": RedisURL(host="h", username="bob"),
    "rediss://h": RedisURL(host="h", tls=True),
    "unix:///run/redis.sock": RedisURL(path="/run/redis.sock"),
    "unix:///run/a%20b.sock?db=2": RedisURL(path="/run/a b.sock", db=2),
    "unix://bob:pw@/run/redis.sock": RedisURL(
        path="/run/redis.sock", username="bob", password="pw"
    ),
    "redis+sentinel://h/main": RedisURL(sentinels=(("h", 26379),), master="main"),
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
    "redis+sentinel:///m": "host:port,host:port",
    "redis+sentinel://h,,h/m": "host:port,host:port",
    "redis+sentinel://h:0/m": "port",
    "redis+sentinel://h:six/m": "port",
    "redis+sentinel://[::1/m": "cannot be read",
    "redis+sentinel://h/m/one": "database",
    "redis+unix://h/m": "scheme",
    "rediss://h?ssl_ca_certs=/not/there": "is not there",
    "redis://h?ssl_ca_certs=/not/there": "rediss",
    "redis+sentinel://h/m?ssl_ca_certs=/not/there": "rediss",
    "embedded:": "folder",
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
        "redis://:sec/ret@h",
        "redis://:secret@h:port",
        "redis://:secret℀@h",
        "redis://:secret@[h",
        "redis+sentinel://:sec/ret@h/m",
        "redis+sentinel://:sec#ret@h/m",
        "redis+sentinel://:secret@h:port/m",
        "redis+sentinel://:secret℀@h/m",
        "redis+sentinel://:secret@h,[h/m",
    ],
)
def test_no_error_quotes_the_password(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be read") as raised:
        RedisURL.parse(text)
    assert "sec" not in str(raised.value)
    assert raised.value.__suppress_context__


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
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.integers(0, 10**6),
)
def test_the_text_of_a_url_with_sentinels_reads_as_the_same(
    scheme: str, sentinels: list[tuple[str, int]], master: str, db: int
) -> None:
    hosts = ",".join(f"{host}:{port}" for host, port in sentinels)
    text = f"{scheme}+sentinel://{hosts}/{quote(master, safe='')}/{db}"
    assert str(RedisURL.parse(text)) == text


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
