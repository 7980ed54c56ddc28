"""The image, without an engine: its file is linted, and its steps are taken in a folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sinapse.settings import OPTIONS
from tests.support import EVENT_TIMEOUT, RedisServer, end, eventually, free_port
from tests.support.daemon import ROOT, Daemon

# It builds a wheel and installs it, and so may have to download what that needs.
pytestmark = pytest.mark.timeout(300)

FOLDER = ROOT / "contrib" / "container"

#: Folders of the image that its steps write to.
WRITTEN = ("/opt/sinapse", "/source", "/wheels")


@dataclass
class Stage:
    """A part of a Containerfile: what is in force at its end."""

    steps: list[tuple[str, str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def one(self, instruction: str) -> str:
        """Return the argument of the only step of a kind."""
        (argument,) = (argument for kind, argument in self.steps if kind == instruction)
        return argument


def stages() -> list[Stage]:
    """Read the Containerfile."""
    text = (FOLDER / "Containerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    found: list[Stage] = []
    for line in filter(None, text.splitlines()):
        kind, _, argument = line.partition(" ")
        if kind == "FROM":
            found.append(Stage())
        found[-1].steps.append((kind, argument.strip()))
        if kind == "ENV":
            found[-1].environment |= dict(each.split("=", 1) for each in argument.split())
    return found


BUILD, FINAL = stages()


def is_for_all(program: Path) -> bool:
    """Whether somebody who is not root can run a program."""
    return program.exists() and all(
        path.stat().st_mode & 0o001 for path in (program, *program.parents)
    )


#: The Python of the image: ours may be in a home.
INTERPRETER = next(
    filter(is_for_all, [Path(sys.executable).resolve(), Path("/usr/bin/python3")]),
    Path(sys.executable),
)


class Image:
    """What the steps of the first stage have made, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in WRITTEN:
            (folder / name[1:]).mkdir(parents=True)
        (folder / "bin").mkdir()
        self._program("python", str(INTERPRETER))
        self._program("pip", f"{sys.executable} -m pip")
        workdir = folder
        for kind, argument in BUILD.steps:
            if kind == "WORKDIR":
                workdir = Path(self.inside(argument))
            elif kind == "COPY":
                *sources, to = argument.split()
                for source in map(ROOT.joinpath, sources):
                    if source.is_dir():
                        ignore = shutil.ignore_patterns("__pycache__", "dropin.cache")
                        shutil.copytree(source, workdir / to, ignore=ignore)
                    else:
                        shutil.copy(source, workdir / to)
            elif kind == "RUN":
                self.run(argument, workdir)
            else:
                assert kind in ("FROM", "ENV"), kind

    def _program(self, name: str, command: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        path.chmod(0o755)

    def inside(self, text: str) -> str:
        """Return a text with the folders of the image in the place of those of the machine."""
        return re.sub("|".join(WRITTEN), lambda found: f"{self.folder}{found[0]}", text)

    def environment(self, stage: Stage) -> dict[str, str]:
        own = {name: self.inside(value) for name, value in stage.environment.items()}
        inherited = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "HOME": "/nowhere"}
        # What pip has already need not be downloaded once more.
        kept = {name: os.environ[name] for name in os.environ if name.startswith("PIP_")}
        own.pop("PIP_NO_CACHE_DIR", None)
        if "PATH" in own:
            own["PATH"] = own["PATH"].replace("$PATH", inherited["PATH"])
        if stage is BUILD:
            inherited["HOME"] = os.environ["HOME"]
        return {**kept, **inherited, **own}

    def run(self, command: str, workdir: Path) -> None:
        """Run a step of the build."""
        ended = subprocess.run(
            ["/bin/sh", "-c", self.inside(command)],
            cwd=workdir,
            env=self.environment(BUILD),
            umask=0o022,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with tempfile.TemporaryDirectory(prefix="sinapse-") as name:
        Path(name).chmod(0o755)
        yield Image(Path(name))


def nobody() -> list[str]:
    """Return what has a command run as the user of the image, if we may choose."""
    if os.getuid() or not is_for_all(INTERPRETER):
        return []
    user, group = FINAL.one("USER").split(":")
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]


def test_it_runs_as_somebody_who_owns_nothing_and_is_told_to_end_as_we_expect() -> None:
    assert FINAL.one("USER") == "10001:10001"
    assert FINAL.one("STOPSIGNAL") == "SIGTERM"
    port = next(option.default for option in OPTIONS if option.name == "port")
    assert port == f"tcp:{FINAL.one('EXPOSE')}"
    assert f"127.0.0.1:{FINAL.one('EXPOSE')}/status" in FINAL.one("HEALTHCHECK")


def test_the_daemon_of_the_image_serves_and_its_health_is_told(
    image: Image, redis_server: RedisServer, tmp_path: Path
) -> None:
    assert list(image.folder.glob("opt/sinapse/lib/*/site-packages/twisted/plugins/dropin.cache"))
    daemon = Daemon(tmp_path, redis_server.url)
    environment = {
        **image.environment(FINAL),
        "REDIS_URL": redis_server.url,
        "SINAPSE_PORT": f"tcp:{daemon.port}:interface=127.0.0.1",
        "SINAPSE_WORKERS": "2",
        "SINAPSE_DRAIN": "0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
    }
    program, *arguments = json.loads(FINAL.one("ENTRYPOINT"))
    # In the folder of an image that says none.
    start = ["/bin/sh", "-c", 'cd / && exec "$@"', "sh", *nobody()]
    daemon.command = [*start, f"{image.folder}/opt/sinapse/bin/{program}", *arguments]
    daemon.environment = environment
    _, _, command = FINAL.one("HEALTHCHECK").partition(" CMD ")
    check = [word.replace(FINAL.one("EXPOSE"), str(daemon.port)) for word in json.loads(command)]
    check[:1] = [*nobody(), f"{image.folder}/opt/sinapse/bin/{check[0]}"]

    def is_healthy() -> bool:
        ended = subprocess.run(
            check, env=environment, stderr=subprocess.DEVNULL, timeout=EVENT_TIMEOUT, check=False
        )
        return ended.returncode == 0

    before = {path for path in image.folder.rglob("*") if "__pycache__" not in path.parts}
    try:
        assert not is_healthy()
        daemon.start()
        assert is_healthy()
        eventually(lambda: len(re.findall(r"worker \d .* serves", daemon.log)) == 2)
        # All of it goes to the output, and nothing else is written.
        assert "starting up" in daemon.log
        assert "cache" not in daemon.log
        assert "[otel] is not installed" not in daemon.log
        assert "Traceback" not in daemon.log
        daemon.stop()
        assert not is_healthy()
    finally:
        if daemon.process is not None:
            end(daemon.process)
    after = {path for path in image.folder.rglob("*") if "__pycache__" not in path.parts}
    assert after == before


def lint(*command: str | Path) -> None:
    ended = subprocess.run(
        [Path(sys.executable).parent / command[0], *command[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=EVENT_TIMEOUT,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_containerfile_is_linted() -> None:
    lint("hadolint", "--failure-threshold", "style", FOLDER / "Containerfile")


def test_the_compose_file_is_as_its_schema_has_it() -> None:
    lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", FOLDER / "compose.yaml")


def test_the_compose_file_names_options_and_leaves_time_to_drain() -> None:
    text = (FOLDER / "compose.yaml").read_text()
    variables = {option.variable: option.default for option in OPTIONS}
    named = re.findall(r"^      ([A-Z_]+):", text, re.MULTILINE)
    assert named
    assert set(named) <= set(variables)
    (grace,) = re.findall(r"stop_grace_period: (\d+)s", text)
    assert int(grace) > float(variables["SINAPSE_DRAIN"]) + 30
