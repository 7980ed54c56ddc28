"""The table of options: defaults, environment, command line, help, and what is said of mistakes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sinapse
from sinapse.daemon.service import Options
from sinapse.errors import StartError
from sinapse.protocol.redisurl import RedisURL
from sinapse.settings import OPTIONS, Settings, groups, resolve

MIB = 1024 * 1024
BY_NAME = {option.name: option for option in OPTIONS}


def same(value: Any) -> Any:
    return value


def allowed(origins: Any) -> list[str]:
    """Return which of some origins may connect."""
    known = ("http://a.org", "http://b.org", "http://c.org")
    return [origin for origin in known if origins.allows(origin.encode())]


#: Words for what is not used.
NOTHING = ("off", "OFF", "none", "None")


class Row(NamedTuple):
    """An option: its default, and what other texts mean; `seen` makes settings comparable."""

    name: str
    default: object
    environment: tuple[str, object]
    command_line: tuple[str, object]
    seen: Callable[[Any], Any] = same


ROWS = (
    Row(
        "port",
        ("tcp:9000",),
        ("tcp:1 unix:/run/s.sock", ("tcp:1", "unix:/run/s.sock")),
        ("tcp:2", ("tcp:2",)),
    ),
    Row(
        "redis",
        (RedisURL(host="localhost", port=6379, db=0),),
        ("redis://redis.example:6380/1", (RedisURL(host="redis.example", port=6380, db=1),)),
        ("unix:///run/redis.sock", (RedisURL(path="/run/redis.sock"),)),
    ),
    Row("min-redis", 0.5, ("100%", 1.0), ("0%", 0.0)),
    Row("prefix", "", ("staging:", "staging:"), ("a-1/", "a-1/")),
    Row(
        "origin",
        ["http://a.org", "http://b.org", "http://c.org"],
        ("a.org, b.org", ["http://a.org", "http://b.org"]),
        ("c.org", ["http://c.org"]),
        allowed,
    ),
    Row("keep-alive", 15.0, ("0.1", 0.1), ("3600", 3600.0)),
    Row("retry", 5.0, ("0", 0.0), ("2.5", 2.5)),
    Row("channel-event", False, ("1", True), ("", True)),
    Row("compress", 512, ("off", None), ("0", 0)),
    Row("retain", True, ("0", False), ("86400", True)),
    Row("max-pending", 4 * MIB, ("65536", 65536), ("1048576", MIB)),
    Row("max-pending-total", 1024 * MIB, ("0", 0), ("1048576", MIB)),
    Row("max-streams", 0, ("1", 1), ("15000", 15000)),
    Row("max-streams-per-subject", 0, ("1", 1), ("20", 20)),
    Row("subject-overflow", "replace", ("refuse", "refuse"), ("Replace", "replace")),
    Row("max-streams-per-address", 0, ("1", 1), ("100", 100)),
    Row("max-channels-per-subject", 0, ("1", 1), ("1000", 1000)),
    Row("admit-empty", False, ("1", True), ("", True)),
    Row("accept-rate", 0, ("1", 1), ("5000", 5000)),
    Row("request-timeout", 10.0, ("1", 1.0), ("60", 60.0)),
    Row("idle-timeout", 75.0, ("1", 1.0), ("60", 60.0)),
    Row("max-url", 8192, ("1024", 1024), ("262144", 262144)),
    Row("max-header", 16384, ("1024", 1024), ("262144", 262144)),
    Row("max-body", 16384, ("0", 0), ("1048576", MIB)),
    Row(
        "trusted-proxies",
        (),
        ("10.0.0.0/8, ::1", ("10.0.0.0/8", "::1")),
        ("192.0.2.1", ("192.0.2.1",)),
    ),
    Row(
        "forwarded-header",
        "X-Forwarded-For",
        ("Forwarded", "Forwarded"),
        ("x-forwarded-for", "X-Forwarded-For"),
    ),
    Row("http2", True, ("off", False), ("on", True)),
    Row("cookie", None, ("push", b"push"), ("session-push", b"session-push")),
    Row("hash-tokens", False, ("1", True), ("", True)),
    Row("stop-status", 401, ("204", 204), ("401", 401)),
    Row("expiry-notice", 60.0, ("0", 0.0), ("10", 10.0)),
    Row("drain", 20.0, ("0", 0.0), ("1.5", 1.5)),
    Row("max-lifetime", 0.0, ("3600", 3600.0), ("0.5", 0.5)),
    Row("workers", 1, ("2", 2), ("16", 16)),
    Row("api", None, ("tcp:1", "tcp:1"), ("off", None)),
    Row("api-keys", None, ("/etc/keys", Path("/etc/keys")), ("off", None)),
    Row("admin", None, ("tcp:1", "tcp:1"), ("unix:/run/a.sock", "unix:/run/a.sock")),
    Row(
        "admin-host",
        ("localhost",),
        ("a B.example", ("a", "b.example")),
        ("push-1.example", ("push-1.example",)),
    ),
    Row("log-format", "text", ("json", "json"), ("text", "text")),
    Row("log-level", "info", ("debug", "debug"), ("critical", "critical")),
    Row("presence", False, ("1", True), ("", True)),
)
EVERY_ROW = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


def argument(name: str, text: str) -> str:
    return f"--{name}" if BY_NAME[name].is_flag else f"--{name}={text}"


def given_by(*arguments: str) -> dict[str, list[str]]:
    """Return what a command line gives."""
    options = Options()
    options.parseOptions(list(arguments))
    return options.given


def setting(row: Row, *arguments: str, **environment: str) -> Any:
    if row.name == "cookie":  # Which only some pages may have sent.
        environment["SINAPSE_CORS_ORIGIN"] = "a.org"
    if row.name == "api":  # Which nobody may use without a key.
        environment["SINAPSE_API_KEYS"] = "/etc/keys"
    settings = resolve(given_by(*arguments), environment)
    return row.seen(getattr(settings, BY_NAME[row.name].setting))


def refusal(*arguments: str, **environment: str) -> str:
    """Return what is said of a mistake: one line."""
    with pytest.raises(StartError) as caught:
        resolve(given_by(*arguments), environment)
    line = str(caught.value)
    assert line.startswith("sinapse: ")
    assert line.isprintable()
    return line


def test_every_option_is_tested_here_and_fills_a_setting() -> None:
    assert [row.name for row in ROWS] == [option.name for option in OPTIONS]
    fields = {field.name for field in dataclasses.fields(Settings)}
    assert {option.setting for option in OPTIONS} == fields
    assert len({option.variable for option in OPTIONS}) == len(OPTIONS)


def test_help_has_the_options_in_their_order_and_in_groups() -> None:
    text = Options().getUsage(width=80)
    names = re.findall(r"^  (?:-\w, )?--([a-z0-9-]+)=?(?: |$)", text, re.MULTILINE)
    assert names == [*(option.name for option in OPTIONS), "help", "version"]
    titles = re.findall(r"^(\w.*):$", text, re.MULTILINE)
    assert titles == [*(title for title, _ in groups()), "Others"]
    assert all(len(line) <= 80 for line in text.splitlines())


# Where a value comes from


@EVERY_ROW
def test_without_anything_it_is_the_default(row: Row) -> None:
    assert setting(row) == row.default


@EVERY_ROW
def test_the_environment_sets_it(row: Row) -> None:
    text, value = row.environment
    assert setting(row, **{BY_NAME[row.name].variable: text}) == value


@EVERY_ROW
def test_the_command_line_sets_it(row: Row) -> None:
    text, value = row.command_line
    assert setting(row, argument(row.name, text)) == value


@EVERY_ROW
def test_the_command_line_wins_over_the_environment(row: Row) -> None:
    text, value = row.command_line
    environment = {BY_NAME[row.name].variable: row.environment[0]}
    assert setting(row, argument(row.name, text), **environment) == value


def test_the_command_line_wins_even_over_a_variable_that_is_wrong() -> None:
    assert resolve(given_by("--retry=1"), {"SINAPSE_RETRY": "soon"}).retry == 1


@EVERY_ROW
def test_an_empty_variable_is_as_good_as_none(row: Row) -> None:
    assert setting(row, **{BY_NAME[row.name].variable: ""}) == row.default


@pytest.mark.parametrize(
    ("short", "name"), [("p", "port"), ("o", "origin"), ("k", "keep-alive"), ("r", "retry")]
)
def test_short_options_are_the_same_options(short: str, name: str) -> None:
    assert given_by(f"-{short}", "x", f"--{name}", "y", f"-{short}z") == {name: ["x", "y", "z"]}


def test_ports_add_up_and_of_others_the_last_counts() -> None:
    resolved = resolve(
        given_by("--port", "tcp:1", "-p", "tcp:2 tcp:3", "--retry=1", "--retry=2"), {}
    )
    assert resolved.ports == ("tcp:1", "tcp:2", "tcp:3")
    assert resolved.retry == 2


def test_origins_add_up() -> None:
    resolved = resolve(given_by("-o", "a.org", "--origin=b.org"), {})
    assert allowed(resolved.origins) == ["http://a.org", "http://b.org"]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("log-format", "JSON", "json"),
        ("log-level", "Warn", "warn"),
        ("subject-overflow", "REFUSE", "refuse"),
        ("forwarded-header", "FORWARDED", "Forwarded"),
        ("http2", "ON", True),
        *(
            (name, text, None)
            for name in ("admin", "api", "api-keys", "compress", "cookie")
            for text in NOTHING
        ),
        *(("prefix", text, "") for text in NOTHING),
        *(("http2", text, False) for text in NOTHING),
        *(("trusted-proxies", text, ()) for text in NOTHING),
    ],
)
def test_case_does_not_matter_in_words_and_none_is_off(name: str, text: str, value: object) -> None:
    option = next(each for each in OPTIONS if each.name == name)
    by_command_line = resolve(given_by(f"--{name}={text}"), {})
    by_environment = resolve({}, {option.variable: text})
    assert getattr(by_command_line, option.setting) == value
    assert getattr(by_environment, option.setting) == value


def test_auto_is_a_word_too() -> None:
    count = resolve(given_by("--workers=auto"), {}).workers
    assert resolve(given_by("--workers=AUTO"), {}).workers == count


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, True) for text in ("1", "true", "yes", "on", "anything")),
        *((text, False) for text in ("0", "false", "no", "off", "none", " Off ", "FALSE", " ")),
    ],
)
def test_a_flag_in_the_environment_can_be_off(text: str, value: bool) -> None:
    assert resolve({}, {"SINAPSE_CHANNEL_EVENT": text}).channel_event is value


def test_nothing_else_in_the_environment_matters() -> None:
    assert resolve({}, {"PORT": "1", "SINAPSE_PORTS": "tcp:1", "SINAPSE": "x"}).ports == (
        "tcp:9000",
    )


# Mistakes

BAD = [
    *(
        ("keep-alive", text, "must be a number of seconds from 0.1 to 3600")
        for text in ("soon", "0", "-1", "0.09", "3601", "nan", "inf", "-inf", "1s", "1,5")
    ),
    *(
        ("retry", text, "must be a number of seconds from 0 to 3600")
        for text in ("soon", "-0.1", "3600.1", "nan", "inf")
    ),
    *(("retain", text, "must be a number of seconds from 0 to ") for text in ("ever", "-1", "nan")),
    *(
        ("max-pending", text, "must be a number of bytes from 65536")
        for text in ("65535", "-1", "4MB", "1e9", "1.5", "1_000_000", "\u0661\u0662\u0663", " ")
    ),
    *(
        (name, text, "must be a number from 0")
        for name in ("max-streams", "max-streams-per-address", "accept-rate")
        for text in ("-1", "many", "1.5", "9" * 5000)
    ),
    *(
        ("compress", text, "must be a number of bytes from 0, or off")
        for text in ("on", "-1", "nan", "1.5", "1k")
    ),
    ("max-url", "1023", "must be a number of bytes from 1024 to 262144"),
    ("max-body", "1048577", "must be a number of bytes from 0 to 1048576"),
    ("request-timeout", "0", "must be a number of seconds from 1 to 3600"),
    ("idle-timeout", "0", "must be a number of seconds from 1 to 3600"),
    ("subject-overflow", "oldest", "must be replace or refuse"),
    ("forwarded-header", "Via", "must be X-Forwarded-For or Forwarded"),
    ("trusted-proxies", "10.0.0.1/8", "10.0.0.1/8 has host bits set"),
    ("trusted-proxies", "proxy", "'proxy' does not appear to be an IPv4 or IPv6 network"),
    ("trusted-proxies", " , ", "names no proxy"),
    ("origin", "(", "'(' is not a regular expression"),
    ("origin", "a.org [", "'[' is not a regular expression"),
    ("origin", " , ", "no origin given"),
    ("port", " ", "names no endpoint"),
]


@pytest.mark.parametrize(("name", "text", "reason"), BAD)
def test_a_bad_option_is_named_with_its_value(name: str, text: str, reason: str) -> None:
    assert refusal(f"--{name}={text}").startswith(f"sinapse: --{name} {text!r}: {reason}")


@pytest.mark.parametrize(("name", "text", "reason"), BAD)
def test_a_bad_variable_is_named_with_its_value(name: str, text: str, reason: str) -> None:
    variable = BY_NAME[name].variable
    line = refusal(**{variable: text})
    assert line.startswith(f"sinapse: {variable} {text!r}: {reason}")


def test_a_cookie_is_not_for_every_page() -> None:
    assert "name the pages that may with --origin" in refusal("--cookie=push")
    assert "is not a cookie name" in refusal("--cookie=a b", "--origin=a.org")


def test_there_is_one_administration_endpoint_at_most() -> None:
    assert resolve(given_by("--admin=off"), {"SINAPSE_ADMIN": "tcp:1"}).admin is None
    assert "names more than one endpoint" in refusal("--admin=tcp:1 tcp:2")


def test_names_of_the_administration_endpoint() -> None:
    assert resolve({}, {}).admin_hosts == ("localhost",)
    given = given_by("--admin-host=a B.example", "--admin-host=c")
    assert resolve(given, {}).admin_hosts == ("a", "b.example", "c")
    assert "names no host" in refusal("--admin-host= ")
    for text in ("http://a", "a:9001", "*.example", "a..b", "[::1]"):
        assert "is not a host name" in refusal(f"--admin-host={text}")


@pytest.mark.parametrize(
    "name", [option.name for option in OPTIONS if option.name != "redis" and not option.is_flag]
)
def test_an_empty_option_is_a_mistake(name: str) -> None:
    assert refusal(f"--{name}=").startswith(f"sinapse: --{name} '': ")


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
@settings(deadline=None, max_examples=50)
def test_whatever_the_value_it_is_one_line(text: str) -> None:
    assert f"sinapse: --max-pending {'x' + text!r}: " in refusal(f"--max-pending=x{text}")


def test_a_prefix_is_that_of_each_redis_without_its_own() -> None:
    urls = "redis://a redis://b?prefix=own: unix:///run/r.sock?db=1&prefix=o%23:"
    found = resolve(given_by("--prefix=staging:"), {"REDIS_URL": urls})
    assert [url.prefix for url in found.redis] == ["staging:", "own:", "o#:"]
    assert found.prefixes == "staging: own: o#:"
    assert resolve({}, {}).prefixes == ""
    same = refusal("--prefix=own:", REDIS_URL="redis://b redis://b?prefix=own:")
    assert same == "sinapse: --prefix 'own:': the same Redis is there twice"
    assert refusal("--redis=redis://:s3cr3t@b?prefix=a{b}:").startswith(
        "sinapse: --redis: the prefix must be 1 to 64 printable ASCII characters"
    )


SECRET = "s3cr3t"
PLACES = (
    "redis://:{}@localhost:port/0",
    "redis://user:{}@localhost:99999/0",
    "redis://user:{}@localhost:0/0",
    "redis://:{}@localhost/database",
    "rediss://:{}@localhost?ssl_ca_certs=/nowhere",
    "redis+sentinel://:{}@localhost:1,localhost:2",
    "redis+sentinel://localhost/name?sentinel_password={}&db=x",
    "unix://:{}@host/run/redis.sock",
    "unix://:{}@/run/redis.sock?db=-1",
    "http://:{}@localhost",
    ":{}@localhost",
    "redis://[:{}@localhost",
    # Not encoded, after what could be a port
    "redis://user:1/{}@localhost/0",
    "redis://user:1?{}@localhost/0",
    "redis://user:1#{}@localhost/0",
    "unix://:1/{}@/run/redis.sock",
    "redis+sentinel://user:1/{}@localhost,localhost/name",
)


@pytest.mark.parametrize("place", PLACES)
@given(rest=st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=6))
@settings(deadline=None, max_examples=20)
def test_a_password_is_never_shown_whatever_is_wrong(place: str, rest: str) -> None:
    url = place.format(SECRET + rest)
    for source, arguments, environment in (
        ("--redis", [f"--redis={url}"], {}),
        ("REDIS_URL", [], {"REDIS_URL": url}),
    ):
        try:
            shown = repr(resolve(given_by(*arguments), environment))
        except StartError as error:
            shown = str(error)
            assert shown.startswith(f"sinapse: {source}: ")
        assert SECRET not in shown


@given(password=st.text(st.characters(exclude_categories=["Cs"]), max_size=6))
@settings(deadline=None, max_examples=50)
def test_a_password_gets_through_and_is_in_no_text(password: str) -> None:
    url = f"redis://:{quote(SECRET + password, safe='')}@localhost/0"
    resolved = resolve({"redis": [url]}, {})
    (redis,) = resolved.redis
    assert redis.password == SECRET + password
    assert SECRET not in f"{resolved} {resolved!r} {redis}"


def test_several_redis_are_given_with_spaces_or_several_times() -> None:
    both = (RedisURL(host="a.example"), RedisURL(host="b.example", port=1))
    first, second = "redis://a.example", "redis://b.example:1"
    assert resolve({"redis": [first, second]}, {}).redis == both
    assert resolve({}, {"REDIS_URL": f" {first}  {second} "}).redis == both


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("redis://a.example redis://a.example:6379/0", "the same Redis is there twice"),
        ("redis://a.example embedded:/x", "an embedded server is the only one"),
        ("a=embedded:/x b=redis://b.example", "an embedded server is the only one"),
    ],
)
def test_several_redis_must_be_several_and_none_of_ours(text: str, reason: str) -> None:
    with pytest.raises(StartError, match=f"--redis: {reason}"):
        resolve({"redis": text.split()}, {})


# The command line itself


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--pigeon"], "option --pigeon not recognized"),
        (["--pigeon=1"], "option --pigeon not recognized"),
        (["-z"], "option -z not recognized"),
        (["--retry"], "option --retry requires argument"),
        (["-p"], "option -p requires argument"),
        (["--channel-event=1"], "option --channel-event must not have an argument"),
        (["pigeon"], "unexpected argument 'pigeon'"),
        (["--retry=1", "pigeon", "--port=tcp:1"], "unexpected argument 'pigeon'"),
        ([""], "unexpected argument ''"),
        (["--pi\ngeon"], r"option --pi\ngeon not recognized"),
        (["--pi\x1b\u2028geon\u00e9=1"], "option --pi\\x1b\\u2028geon\u00e9 not recognized"),
        (["-\n"], r"option -\n not recognized"),
        (["pi\ngeon"], r"unexpected argument 'pi\ngeon'"),
    ],
)
def test_what_is_no_option_is_named(arguments: list[str], says: str) -> None:
    assert refusal(*arguments) == f"sinapse: {says} (--help lists the options)"


@given(st.lists(st.text(max_size=8) | st.from_regex(r"--?[a-z]*\s?=?"), max_size=3))
@settings(deadline=None)
def test_whatever_the_command_line_it_is_read_or_refused_in_one_line(arguments: list[str]) -> None:
    try:
        given_by(*arguments)
    except StartError as error:
        assert str(error).isprintable()  # noqa: PT017  # Some lines are fine.
    except SystemExit as ended:
        assert ended.code == 0  # noqa: PT017  # Of --help and --version.


def test_nothing_given_is_nothing_given() -> None:
    assert given_by() == {}


def test_version_is_printed_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        given_by("--version")
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"Sinapse {sinapse.__version__}\n"


def test_help_has_every_option_with_its_variable_and_default() -> None:
    # Its lines are folded at spaces and hyphens.
    text = re.sub(r"\s+", "", Options().getUsage())
    for option in OPTIONS:
        assert f"--{option.name}" in text
        if option.short:
            assert f"-{option.short}," in text
        default = "" if option.is_flag else f",default{option.default}"
        assert f"[{option.variable}{default}]" in text
        assert re.sub(r"\s+", "", option.help) in text


def test_help_tells_which_options_take_a_value() -> None:
    text = Options().getUsage()
    for option in OPTIONS:
        assert (f"--{option.name}=" in text) is not option.is_flag
