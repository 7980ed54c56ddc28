"""What is shipped: the wheel and the sdist, and a daemon that has nothing but the wheel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support import PYTHON, RedisServer, end, eventually, free_port
from tests.support.browser import program
from tests.support.building import ENVIRONMENT, LEFTOVERS, Built, built, run
from tests.support.daemon import ROOT, Daemon
from tests.support.walkthrough import index

__all__ = ["built"]

# Several processes, and downloads from the package index.
pytestmark = pytest.mark.timeout(300)

#: Where the folders of the checkout are in the wheel.
SHIPPED = {"sinapse": "sinapse", "example": "sinapse/example", "twisted": "twisted"}


class Installed:
    """A virtual environment with the wheel, what the wheel asks for, and nothing else."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self._environment = ENVIRONMENT | index(wheel)
        folder.mkdir()
        self.output = run(PYTHON, "-m", "venv", "--without-pip", folder, cwd=folder)
        self.output += self.install("sinapse-push")

    def install(self, requirement: str) -> str:
        """Install with pip, and return what it prints."""
        pip = (PYTHON, "-m", "pip", "--python", self.bin / "python")
        return run(*pip, "install", requirement, cwd=self.folder, environment=self._environment)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed") / "venv", built.wheel)


def contents(wheel: Path) -> dict[str, bytes]:
    """Return all files of a wheel but its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name
        }


def test_the_wheel_has_every_file_of_the_packages_and_no_other(built: Built) -> None:
    expected = {
        f"{target}/{path.relative_to(built.checkout / source)}"
        for source, target in SHIPPED.items()
        for path in (built.checkout / source).rglob("*")
        if path.is_file() and path.name != "dropin.cache"
    }
    assert contents(built.wheel).keys() == expected


def test_the_text_for_an_index_has_no_link_that_is_dead_there(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        [name] = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(name).decode()
    assert "## How it compares" in text
    assert "[" in (ROOT / "README.md").read_text().partition("## More")[2]
    links = re.findall(r"\]\(([^)\s]*)", text)
    assert [link for link in links if not re.match(r"https?:", link)] == []
    assert "![" not in text


def test_the_wheel_leaves_the_packages_of_twisted_to_twisted(built: Built) -> None:
    twisted = {name for name in contents(built.wheel) if name.startswith("twisted/")}
    assert twisted == {"twisted/plugins/sinapse_plugin.py"}


def test_the_wheel_tells_type_checkers_that_it_has_hints(built: Built) -> None:
    assert "sinapse/py.typed" in contents(built.wheel)


def test_the_sdist_builds_the_same_wheel(built: Built) -> None:
    assert contents(built.wheel_of_sdist) == contents(built.wheel)


def test_the_sdist_has_what_make_test_needs(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        str(path.relative_to(built.checkout))
        for folder in ("tests", "clients", "contrib", "docs", ".ci", ".github")
        for path in (built.checkout / folder).rglob("*")
        if path.is_file() and not LEFTOVERS & set(path.parts)
    }
    needed |= {f"bench/{path.name}" for path in (built.checkout / "bench").glob("*.py")}
    assert names >= needed | {"Makefile", "README.md", "pyproject.toml", "setup.cfg", "setup.py"}
    assert not [name for name in names if LEFTOVERS & set(name.split("/"))]
    assert "twisted/plugins/dropin.cache" not in names


def test_building_and_installing_print_no_warning(built: Built, installed: Installed) -> None:
    assert "warning" not in (built.output + installed.output).lower()


def test_what_others_have_published_under_our_name_is_not_installed(installed: Installed) -> None:
    """So the test of a page that names another package fails."""
    with pytest.raises(AssertionError, match="sinapse<0"):
        installed.install("sinapse")


def test_the_installed_package_is_the_one_of_the_wheel(
    installed: Installed, tmp_path: Path
) -> None:
    code = "import sinapse, sinapse.example as e; print(sinapse.__file__, e.__file__, sep='\\n')"
    for file in run(installed.bin / "python", "-c", code, cwd=tmp_path).splitlines():
        assert Path(file).is_relative_to(installed.folder)


def test_twistd_knows_the_daemon_from_any_folder(installed: Installed, tmp_path: Path) -> None:
    twistd = installed.bin / "twistd"
    help_text = run(twistd, "sinapse", "--help", cwd=tmp_path)
    version = run(twistd, "sinapse", "--version", cwd=tmp_path)
    assert "--redis" in help_text
    assert version.startswith("Sinapse ")
    assert "warning" not in (help_text + version).lower()


def test_the_console_command_is_there(installed: Installed, tmp_path: Path) -> None:
    assert "sinapse" in run(installed.bin / "sinapse", "--help", cwd=tmp_path)


def test_the_installed_daemon_serves_and_prints_no_warning(
    installed: Installed, redis_server: RedisServer, tmp_path: Path
) -> None:
    environment = {"PYTHONPATH": "", "PYTHONWARNINGS": "default"}
    daemon = Daemon(tmp_path, redis_server.url, environment=environment)
    arguments = daemon.command[daemon.command.index("sinapse") :]
    daemon.command = [str(installed.bin / "twistd"), "-n", "--pidfile=", *arguments]
    try:
        daemon.start()
        assert daemon.get("/status").status == 200
    finally:
        if daemon.process is not None:
            end(daemon.process)
    assert "warning" not in daemon.log.lower()


def test_the_installed_chat_can_be_tried(
    built: Built, installed: Installed, redis_server: RedisServer, tmp_path: Path
) -> None:
    """With the extra and a Redis; in an empty folder."""
    output = installed.install("sinapse-push[demo]")
    port = free_port()
    options = [f"--port={port}", f"--daemon-port={free_port()}"]
    environment = ENVIRONMENT | {"REDIS_URL": redis_server.url}
    with (tmp_path / "output").open("wb") as stdout:
        demo = subprocess.Popen(
            [installed.bin / "sinapse", "demo", *options],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
        )
    try:
        eventually(lambda: b"Ctrl-C" in (tmp_path / "output").read_bytes(), "the demo runs")
        with urlopen(f"http://127.0.0.1:{port}/static/chat.js") as answer:
            assert answer.status == 200
    finally:
        end(demo)
    assert "warning" not in output.lower()


def test_twistd_of_this_environment_knows_the_daemon_from_any_folder(tmp_path: Path) -> None:
    twistd = Path(sys.executable).parent / "twistd"
    assert run(twistd, "sinapse", "--version", cwd=tmp_path).startswith("Sinapse ")


def make(built: Built, target: str, *variables: str) -> str:
    """Make a target in the copy of the checkout, with the environment of the tests."""
    venv = Path(sys.executable).parent.parent
    made = (f"--old-file={venv}/develop", f"--old-file={venv}/bin/python", f"VENV={venv}")
    return run("make", *made, target, *variables, cwd=built.checkout)


def test_what_is_published_is_built_once_and_is_what_is_tested_here(built: Built) -> None:
    # The time of the last commit, which a copy has not.
    make(built, "dist", "SOURCE_DATE_EPOCH=1700000000")
    [wheel] = (built.checkout / "dist").glob("*.whl")
    [sdist] = (built.checkout / "dist").glob("*.tar.gz")
    assert (wheel.name, sdist.name) == (built.wheel.name, built.sdist.name)
    assert contents(wheel) == contents(built.wheel)
    with tarfile.open(sdist) as ours, tarfile.open(built.sdist) as theirs:
        assert sorted(ours.getnames()) == sorted(theirs.getnames())


def test_the_package_for_npm_says_where_its_source_is(built: Built) -> None:
    program("npm")
    make(built, "dist-client", "REPOSITORY=https://example.org/us/it")
    [package] = (built.checkout / "dist" / "npm").iterdir()
    with tarfile.open(package) as archive:
        file = archive.extractfile("package/package.json")
        assert file is not None
        said = json.load(file)
        assert "package/dist/index.js" in archive.getnames()
    assert said["repository"] == {
        "type": "git",
        "url": "git+https://example.org/us/it.git",
        "directory": "clients/js",
    }
    source = json.loads((built.checkout / "clients" / "js" / "package.json").read_text())
    assert said == source | {"repository": said["repository"]}
