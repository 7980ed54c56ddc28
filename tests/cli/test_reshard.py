"""``sinapse reshard``: what it refuses, in one line each, before anything is moved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sinapse.cli import main
from sinapse.errors import BrokerUnavailable
from sinapse.protocol.redislist import parse_all, shards_of
from sinapse.publisher import Publisher
from sinapse.publisher.resharding.copying import Copying
from sinapse.publisher.resharding.finishing import Finishing
from sinapse.publisher.resharding.parties import CannotMove, Parties
from tests.support import RedisServer, free_port, running_named
from tests.support.daemon import running_daemon


@pytest.fixture(scope="module")
def _servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RedisServer]]:
    folder = tmp_path_factory.mktemp("reshard")
    with running_named(folder, "abc") as servers:
        yield servers


@pytest.fixture
def servers(_servers: dict[str, RedisServer]) -> dict[str, RedisServer]:
    for server in _servers.values():
        with contextlib.closing(server.client()) as client:
            client.flushall()
    return _servers


def listed(
    servers: dict[str, RedisServer], state: str, names: str = "ab", moving: str = "c"
) -> str:
    settled = [f"{name}={servers[name].url}" for name in names]
    query = f"?tokens=no&state={state}" if state else "?tokens=no"
    return " ".join([*settled, *(f"{name}={servers[name].url}{query}" for name in moving)])


def run(url: str, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["reshard", "--redis", url, *arguments])
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback" not in result.output
    return result.output


def refusal(url: str, *arguments: str, code: int = 1) -> str:
    said = run(url, *arguments, code=code)
    *_, last = said.splitlines()
    return last.removeprefix("Error: ")


def test_a_list_to_which_nothing_happens(servers: dict[str, RedisServer]) -> None:
    assert refusal(listed(servers, "")).startswith("nothing joins and nothing leaves")
    assert refusal(" ".join(each.url for each in servers.values())).startswith("nothing joins")
    assert refusal(listed(servers, "joined")) == (
        "state=joined comes after this: run it with state=joining"
    )
    assert "run it with state=leaving" in refusal(listed(servers, "left"))
    assert refusal(listed(servers, ""), "--finish").startswith("nothing is to be finished")
    assert "without state=joining" in refusal(listed(servers, "joining"), "--finish")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://a redis://b?tokens=no&state=joining", "a Redis with a state needs a name"),
        ("a=redis://a a=redis://b?tokens=no&state=joining", "two Redis are called a"),
        ("a=redis://a?tokens=no b=redis://b?state=joining", "all that keep tokens join or leave"),
        ("a=redis://a?tokens=no b=redis://b?tokens=no", "no Redis keeps tokens"),
        ("a=redis://a b=redis://b?state=here", "the state must be one of joining, joined, leaving"),
        ("a=redis://a b=redis://b?tokens=some", "tokens must be yes or no"),
        (
            "a=redis://a b=redis://b?tokens=no&state=joining c=redis://c?tokens=no&state=left",
            "all that join or leave have the same state",
        ),
    ],
)
def test_a_list_that_is_none(url: str, says: str) -> None:
    assert refusal(url).startswith(f"--redis: {says}")


def test_one_that_has_not_left(servers: dict[str, RedisServer]) -> None:
    assert "all is there" in run(listed(servers, "joining"))
    assert refusal(listed(servers, "joining", "a", "b")) == (
        "the last one is not finished: sinapse reshard --finish (a b + c)"
    )
    for server in servers.values():
        with contextlib.closing(server.client()) as client:
            client.hdel("sinapse:move", "done")
    assert refusal(listed(servers, "joining", "a", "b")) == (
        "the list lacks c, which has not left: a knows it"
    )


def rights(server: RedisServer) -> set[bytes]:
    """Return keys of rights and tokens."""
    with contextlib.closing(server.client()) as raw:
        client: Any = raw
        return {
            key
            for kind in ("channels", "tokens", "User")
            for key in client.scan_iter(match=f"sinapse:{kind}:*")
        }


def give(url: str) -> None:
    """Grant channels, and draw tokens, of which each Redis gets some."""
    with Publisher(url) as publisher:
        for number in range(40):
            publisher.channels.add(f"{number}", f"room:{number}")
            publisher.tokens.obtain(f"{number}")


@pytest.mark.parametrize("tokens", ["", "tokens=no&"])
def test_one_that_has_joined_does_not_join_again(
    servers: dict[str, RedisServer], tokens: str
) -> None:
    joining = listed(servers, "joining").replace("tokens=no&", tokens)
    after = joining.replace("&state=joining", "").replace("?state=joining", "")
    give(joining)
    run(joining)
    with contextlib.closing(servers["c"].client()) as client:
        client.hset("sinapse:retention", mapping={"epoch": "x", "counter": "1"})
    run(after, "--finish")
    before = rights(servers["c"])
    assert before
    for arguments in ([], ["--dry-run"]):
        said = refusal(joining, *arguments)
        assert said == "c has joined already: take its state out of the list"
    assert rights(servers["c"]) == before
    with (
        Publisher(joining.replace("state=joining", "state=joined")) as publisher,
        pytest.raises(BrokerUnavailable, match="take the state out of the list"),
    ):
        publisher.channels.add("1", "room:1")


def test_one_of_the_list_does_not_join(servers: dict[str, RedisServer]) -> None:
    settled = " ".join(f"{name}={server.url}" for name, server in servers.items())
    give(settled)
    with Publisher(settled) as publisher:
        for number in range(40):
            publisher.publish(f"room:{number}", "x")
    before = {name: rights(server) for name, server in servers.items()}
    for name, server in servers.items():
        url = settled.replace(server.url, f"{server.url}?state=joining")
        assert refusal(url) == (
            f"{name} has had messages, and nobody knows that it has ever left: write"
            " ?state=joining behind the one that is new, or empty that first"
        )
    assert {name: rights(server) for name, server in servers.items()} == before


def test_one_that_has_left_does_not_leave_again(servers: dict[str, RedisServer]) -> None:
    leaving = listed(servers, "leaving")
    give(leaving)
    run(leaving)
    after = " ".join(f"{name}={servers[name].url}" for name in "ab")
    run(after, "--finish")
    with Publisher(after) as publisher:
        for number in range(40):
            publisher.channels.remove(f"{number}", f"room:{number}")
    assert refusal(leaving) == "c has left already: take it out of the list"
    with Publisher(after) as publisher:
        assert not any(publisher.channels.list(f"{number}") for number in range(40))


def test_who_keeps_tokens_stays_so_until_the_end(servers: dict[str, RedisServer]) -> None:
    joining = listed(servers, "joining")
    give(joining)
    run(joining)
    with contextlib.closing(servers["c"].client()) as client:
        client.hset("sinapse:retention", mapping={"epoch": "x", "counter": "1"})
    before = {name: rights(servers[name]) for name in "abc"}
    without = joining.replace("?tokens=no&state=joining", "")
    said = "tokens=no has to stay where it was: it is not for c"
    assert refusal(without, "--finish") == said
    assert refusal(f"{without}?state=joined", "--finish", "--dry-run") == said
    with (
        Publisher(f"{without}?state=joined") as publisher,
        pytest.raises(BrokerUnavailable, match=r"different tokens=no.*tokens were in a b\)"),
    ):
        publisher.tokens.obtain("1")
    assert {name: rights(servers[name]) for name in "abc"} == before
    assert "nothing moves any more" in run(listed(servers, ""), "--finish")


def test_who_leaves_keeps_tokens_as_before(servers: dict[str, RedisServer]) -> None:
    leaving = listed(servers, "leaving").replace("tokens=no&", "")
    wrong = listed(servers, "leaving")
    give(leaving)
    with contextlib.closing(servers["c"].client()) as client:
        client.hset("sinapse:retention", mapping={"epoch": "x", "counter": "1"})
    before = rights(servers["c"])
    assert any(b":tokens:" in key for key in before)
    assert "0 removed" in run(wrong)  # Nobody knows better: it is the first move.
    assert rights(servers["c"]) == before
    settled = listed(servers, "").replace("?tokens=no", "")
    said = "tokens=no has to stay where it was: it is not for c"
    assert refusal(settled, "--finish") == said
    run(listed(servers, ""), "--finish")  # It is given up.
    assert "all is there" in run(leaving)
    run(" ".join(f"{name}={servers[name].url}" for name in "ab"), "--finish")
    run(leaving.replace("leaving", "joining"))
    run(settled, "--finish")
    before = rights(servers["c"])
    assert refusal(wrong) == said
    assert rights(servers["c"]) == before


@pytest.mark.parametrize("state", ["joining", "leaving"])
def test_a_copy_that_was_killed_as_it_noted_that_is_given_up(
    servers: dict[str, RedisServer], state: str
) -> None:
    moving = listed(servers, state, moving="c", names="ab")
    run(moving)
    for name in "bc":
        with contextlib.closing(servers[name].client()) as client:
            client.delete("sinapse:move")
    with contextlib.closing(servers["c"].client()) as client:
        client.hset("sinapse:retention", mapping={"epoch": "x", "counter": "1"})
    before, after = listed(servers, "", moving=""), listed(servers, "")
    if state == "leaving":
        before, after = after, before
    assert refusal(after, "--finish").startswith("not all has been copied: run 'sinapse reshard'")
    assert "nothing moves any more" in run(before, "--finish")
    assert "all is there" in run(moving)


def test_two_that_are_the_same(servers: dict[str, RedisServer]) -> None:
    url = listed(servers, "joining").replace(f"{servers['b'].url}", servers["c"].url)
    other = url.replace("c=redis://127.0.0.1", "c=redis://localhost")
    assert refusal(other) == "b and c are the same Redis"


def test_one_that_is_away(servers: dict[str, RedisServer]) -> None:
    url = listed(servers, "joining").replace(servers["c"].url, f"redis://127.0.0.1:{free_port()}")
    assert "Redis at c=redis://127.0.0.1" in refusal(url, code=69)


def test_one_that_a_daemon_does_not_hear(servers: dict[str, RedisServer], tmp_path: Path) -> None:
    before = " ".join(f"{name}={servers[name].url}" for name in "ab")
    with running_daemon(tmp_path, before):
        assert refusal(listed(servers, "joining")) == (
            "not all are heard by the same number of daemons: a by 1, b by 1, c by 0; restart with"
            " this list the daemons that have a different one"
        )


def test_a_second_one_at_once(servers: dict[str, RedisServer]) -> None:
    url = listed(servers, "joining")
    first = Parties(parse_all([url]))
    first.lock()
    assert refusal(url).startswith("another one runs, or did 10 seconds ago")
    first.unlock()
    with Publisher(url) as publisher:
        publisher.channels.add("1", "room:1")
    run(url)
    first.lock()
    with contextlib.closing(servers["a"].client()) as client:
        client.delete("sinapse:move:lock")
    first._lasts = 0.0
    with pytest.raises(CannotMove, match="has hung"):
        Copying(first).copy()
    first.close()


def test_it_copies_what_moves_and_removes_what_does_not_belong(
    servers: dict[str, RedisServer],
) -> None:
    before = " ".join(f"{name}={servers[name].url}" for name in "ab")
    joining = listed(servers, "joining")
    names = [f"room:{number}" for number in range(60)]
    with Publisher(before) as publisher:
        for name in names:
            publisher.channels.add("1", name, 100 if name.endswith("7") else None)
            publisher.groups.channels("team").add(name)
        publisher.groups.add("2", "team")
        publisher.publish(names[0], "x", replay=1)
    with contextlib.closing(servers["c"].client()) as raw:
        client: Any = raw
        # From an attempt that was given up.
        client.sadd("sinapse:channels:old", *names)
        client.hset("sinapse:group:old", names[0], "1")
        client.hset("sinapse:groups:3", "team", "1")
        client.sadd("sinapse:channels:1", b"\xff")
        client.sadd(b"sinapse:channels:\xff", "room:1")
        assert "rights and tokens would be copied" in run(joining, "--dry-run")
        assert client.scard("sinapse:channels:1") == 1
        run(joining)
        moved = {each.decode() for each in client.smembers("sinapse:channels:1") if each != b"\xff"}
        assert 5 < len(moved) < 40
        assert {each.decode() for each in client.hkeys("sinapse:group:team")} == moved
        assert client.exists("sinapse:channels:old", "sinapse:group:old", "sinapse:groups:3") == 0
        assert client.hkeys("sinapse:groups:2") == [b"team"]
        ends = {each.partition(b"\n")[2].decode() for each in client.zrange("sinapse:ends", 0, -1)}
        assert ends == {name for name in moved if name.endswith("7")}
        assert client.hexists("sinapse:replay", names[0]) == (names[0] in moved)
        assert client.hget("sinapse:move", "done") == b"a b + c"
    after = listed(servers, "")
    with Publisher(listed(servers, "joined")) as publisher:
        assert publisher.channels.list("1") == set(names)
    # No daemon: nobody has given an id there.
    assert refusal(after, "--finish") == "no daemon has been connected to c"
    assert "rights and tokens would be removed" in run(after, "--finish", "--dry-run")


def test_it_copies_tokens_and_sessions_whose_home_moves(servers: dict[str, RedisServer]) -> None:
    before, after, joining = (
        " ".join(f"{name}={servers[name].url}" for name in names) + state
        for names, state in (("ab", ""), ("abc", ""), ("abc", "?state=joining"))
    )
    subjects = [str(number) for number in range(40)]
    shards = shards_of(parse_all([joining]))
    moved = {each for each in subjects if shards.other_home(each.encode()) is not None}
    assert 5 < len(moved) < 30
    with Publisher(before) as publisher:
        tokens = {each: publisher.tokens.generate(each, "Guest", 1000) for each in subjects}
        obtained = {each: publisher.tokens.obtain(each, expires_in=1000) for each in subjects}
        sessions = {each: publisher.sessions.open(each, device="x") for each in subjects}
        parts = {each: publisher.sessions.open(each, only="room:*") for each in subjects}
    subject = min(moved)
    with contextlib.closing(servers["c"].client()) as raw:
        client: Any = raw
        # From an attempt that was given up: these have been revoked since.
        client.set("sinapse:tokens:old", subject)
        client.set(f"sinapse:User:{subject}", "old")
        client.set("sinapse:tokens:older", next(each for each in subjects if each not in moved))
        home = servers[shards.names[shards.home(subject.encode())]]
        with contextlib.closing(home.client()) as there:
            there.set("sinapse:tokens:by-hand", subject)
        run(joining, "--dry-run")
        assert client.keys("sinapse:tokens:*") != []
        run(joining)
        keys = {each.decode().removeprefix("sinapse:tokens:") for each in client.keys("sinapse:t*")}
        its = (tokens, obtained, {each: session.token for each, session in sessions.items()})
        assert keys == {"by-hand", *(kind[each] for kind in its for each in moved)}
        assert 0 < client.ttl(f"sinapse:tokens:{tokens[subject]}") <= 1000
        assert len(client.keys("sinapse:session:*")) == 2 * len(moved)
        client.hset("sinapse:retention", mapping={"epoch": "x", "counter": "1"})
    with Publisher(after) as publisher:
        for each in subjects:
            assert publisher.tokens.get(each, "Guest") == tokens[each]
            assert publisher.tokens.get(each) == obtained[each]
            ids = {session.id for session in publisher.sessions.list(each)}
            assert ids == {sessions[each].id, parts[each].id}
    run(after, "--finish")
    for name in "ab":
        with contextlib.closing(servers[name].client()) as raw:
            client = raw
            for key in client.scan_iter(match="sinapse:tokens:*"):
                assert client.get(key).decode() not in moved
            for kind in ("Guest", "User", "obtained:User", "sessions"):
                left = {each.decode().rsplit(":")[-1] for each in client.keys(f"sinapse:{kind}:*")}
                assert not left & moved
    with Publisher(after) as publisher:
        for each in subjects:
            assert publisher.tokens.get(each, "Guest") == tokens[each]
            assert publisher.sessions.end_all(each) == 2


def test_what_somebody_else_has_written_is_counted_and_left_as_it_is(
    servers: dict[str, RedisServer],
) -> None:
    before = " ".join(f"{name}={servers[name].url}" for name in "ab")
    joining = listed(servers, "joining").replace("tokens=no&", "")
    shards = shards_of(parse_all([joining]))
    names = [f"room:{number}" for number in range(60)]
    subjects = [f"{number}" for number in range(20)]
    with Publisher(before) as publisher:
        for name in names:
            publisher.channels.add("1", name)
        publisher.groups.add("1", "team")
        publisher.groups.channels("team").add(names[0])
        tokens = {each: publisher.tokens.generate(each) for each in subjects}
    wrong = ["sinapse:nodes", "two\nlines", "x" * 600, b"\xff", ""]
    written: dict[str, int] = {}
    for name in "ab":
        with contextlib.closing(servers[name].client()) as raw:
            client: Any = raw
            client.sadd("sinapse:channels:1", *wrong)
            client.sadd("sinapse:channels:two\nlines", "room:1", "room:2")
            client.sadd(b"sinapse:channels:\xff", "room:1")
            client.hset("sinapse:group:team", mapping=dict.fromkeys(wrong[:3], "1"))
            client.hset("sinapse:group:two words", "room:1", "1")
            client.hset("sinapse:groups:1", "two words", "1")
            client.hset("sinapse:groups:two\nlines", "team", "1")
            client.zadd("sinapse:sessions:1", {b"\xff": 1})
            client.set("sinapse:tokens:x", "two\nlines")
            client.set(b"sinapse:tokens:\xff", "1")
            client.set(b"sinapse:User:\xff", "x")
            written[name] = 5 + 2 + 1 + 3 + 1 + 1 + 1 + 1 + 1 + 1 + 1
    said = f"entries that are no names, and stay as they are: {sum(written.values())}"
    assert said in run(joining, "--dry-run")
    assert said in run(joining)
    with contextlib.closing(servers["c"].client()) as raw:
        client = raw
        moved = {each for each in names if shards.other(each.encode()) is not None}
        assert {each.decode() for each in client.smembers("sinapse:channels:1")} == moved
        its = {each for each in subjects if shards.other_home(each.encode()) is not None}
        assert its
        assert {each.decode() for each in client.keys("sinapse:tokens:*")} == {
            f"sinapse:tokens:{tokens[each]}" for each in its
        }
        client.hset("sinapse:retention", mapping={"epoch": "x", "counter": "1"})
    # Memberships stay in any case.
    left = sum(written.values()) - 2 * 2
    after = listed(servers, "").replace("?tokens=no", "")
    text = run(after, "--finish")
    assert "nothing moves any more" in text
    assert f"entries that are no names, and stay as they are: {left}" in text
    for name in "ab":
        with contextlib.closing(servers[name].client()) as raw:
            client = raw
            found = client.smembers("sinapse:channels:1")
            assert {b"sinapse:nodes", b"two\nlines", b"\xff", b""} <= found
            assert not {each.encode() for each in moved} & found


def test_a_past_that_has_changed_since_an_attempt_is_copied_again(
    servers: dict[str, RedisServer],
) -> None:
    joining = listed(servers, "joining")
    shards = shards_of(parse_all([joining]))
    moving = [name for name in map("room:{}".format, range(99)) if shards.other(name.encode())]
    new, changed, ended, same = moving[:4]
    [staying] = [name for name in map("room:{}".format, range(9)) if name not in moving][:1]
    with (
        Publisher(joining) as publisher,
        contextlib.closing(servers["c"].client()) as raw,
    ):
        client: Any = raw
        for name in (changed, ended, same, staying):
            publisher.publish(name, "x", replay=2)
        run(joining)
        # It was given up.
        run(" ".join(f"{name}={servers[name].url}" for name in "ab"), "--finish")
        client.hset("sinapse:replay", staying, "7")
        publisher.publish(new, "x", replay=5)
        publisher.publish(changed, "x", replay="all")
        publisher.publish(ended, "x", replay=0)
        run(joining)
        assert client.hgetall("sinapse:replay") == {
            new.encode(): b"5",
            changed.encode(): b"all",
            same.encode(): b"2",
            staying.encode(): b"7",
        }


def test_a_move_is_given_up(servers: dict[str, RedisServer]) -> None:
    run(listed(servers, "joining"))
    before = " ".join(f"{name}={servers[name].url}" for name in "ab")
    assert "nothing moves any more" in run(before, "--finish")
    assert refusal(before, "--finish").startswith("nothing is to be finished")


@pytest.mark.parametrize("state", ["joining", "leaving"])
def test_a_move_is_not_given_up_once_it_is_used(
    servers: dict[str, RedisServer], state: str
) -> None:
    moving = listed(servers, state)
    give(moving)
    run(moving)
    with contextlib.closing(servers["c"].client()) as client:
        client.hset("sinapse:retention", mapping={"epoch": "x", "counter": "1"})
    used = {"joining": "joined", "leaving": "left"}[state]
    with Publisher(listed(servers, used)) as publisher:
        publisher.channels.has("1", "room:1")
    held = {name: rights(servers[name]) for name in "abc"}
    lists = [listed(servers, "", moving=""), listed(servers, "")]
    before, after = lists if state == "joining" else reversed(lists)
    move = "a b + c" if state == "joining" else "a b - c"
    assert refusal(before, "--finish") == (
        f"too late to give up {move}, as publishers went on after the copy: go on too, with the"
        " list of step 5"
    )
    assert {name: rights(servers[name]) for name in "abc"} == held
    assert "nothing moves any more" in run(after, "--finish")
    if state == "leaving":  # It comes back, and leaves: that is given up.
        with contextlib.closing(servers["c"].client()) as client:
            client.flushall()
        run(listed(servers, "joining"))
        with contextlib.closing(servers["c"].client()) as client:
            client.hset("sinapse:retention", mapping={"epoch": "x", "counter": "1"})
        run(before, "--finish")
        run(moving)
        assert "nothing moves any more" in run(before, "--finish")


def test_what_has_been_copied_is_not_copied_beside_publishers_of_the_next_step(
    servers: dict[str, RedisServer],
) -> None:
    joining = listed(servers, "joining")
    run(joining)
    assert refusal(joining) == "all has been copied: go on with state=joined"
    with Publisher(listed(servers, "joined")) as publisher:
        assert publisher.channels.add("1", "room:1")


def test_one_that_has_left_comes_back(servers: dict[str, RedisServer]) -> None:
    run(listed(servers, "leaving"))
    run(" ".join(f"{name}={servers[name].url}" for name in "ab"), "--finish")
    assert "all is there" in run(listed(servers, "joining"))


def test_a_move_that_was_given_up_does_not_stop_another_one(
    servers: dict[str, RedisServer],
) -> None:
    run(listed(servers, "joining", "a", "bc"))
    run(listed(servers, "", "a", ""), "--finish")
    assert "all is there" in run(listed(servers, "joining", "a", "b"))


def test_an_end_that_was_killed_is_ended_again(servers: dict[str, RedisServer]) -> None:
    run(listed(servers, "leaving"))
    after = " ".join(f"{name}={servers[name].url}" for name in "ab")
    them = Parties(parse_all([after]))
    finishing = Finishing(them)
    second = them.parts[1]
    original = second.execute

    def killed(*command: str | bytes) -> Any:
        if command[0] == "HDEL":
            raise KeyboardInterrupt
        return original(*command)

    second.execute = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        finishing.note(finishing.check())
    them.close()
    assert refusal(listed(servers, "leaving")) == (
        "the last one is not finished: sinapse reshard --finish (a b - c)"
    )
    assert "nothing moves any more" in run(after, "--finish")
    assert "all is there" in run(listed(servers, "joining"))


def test_a_group_with_the_name_of_a_subject(servers: dict[str, RedisServer]) -> None:
    before = " ".join(f"{name}={servers[name].url}" for name in "ab")
    names = [f"room:{number}" for number in range(60)]
    with Publisher(before) as publisher:
        for name in names:
            publisher.channels.add("same", name)
            publisher.groups.channels("same").add(name)
    run(listed(servers, "joining"))
    with contextlib.closing(servers["c"].client()) as raw:
        client: Any = raw
        moved = client.smembers("sinapse:channels:same")
        assert len(moved) > 5
        assert set(client.hkeys("sinapse:group:same")) == moved


def test_what_is_retained_where_a_channel_was_is_counted_before_the_end(
    servers: dict[str, RedisServer],
) -> None:
    joining, joined = listed(servers, "joining"), listed(servers, "joined")
    shards = shards_of(parse_all([joining]))
    channel = next(name for name in map("room:{}".format, range(99)) if shards.other(name.encode()))
    with Publisher(joining) as publisher:
        publisher.channels.add("1", channel)
        publisher.publish(channel, "x", retain=600)
        run(joining)
    assert "0 rights and tokens would be removed, 1 stay for now" in run(
        joined, "--finish", "--dry-run"
    )
    # Removed too early, by a publisher that knows one place only.
    with Publisher(listed(servers, "")) as publisher:
        publisher.channels.remove("1", channel)
    assert "1 rights and tokens would be removed, 0 stay for now" in run(
        joined, "--finish", "--dry-run"
    )
