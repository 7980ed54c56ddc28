"""What the release asks of the checkout before it builds, and what it tells of itself."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import sinapse
from tests.support import PYTHON
from tests.support.daemon import ROOT

CHANGELOG = """# Changelog

## [Unreleased]

### Added

- [Not yet](docs/later.md).

## [1.2.0{candidate}] - 2026-12-01

### Added

- [Groups](docs/publisher.md#groups), and [what that is](https://example.org/groups).

## [1.1.0] - 2026-11-01

- Older.
"""


class Checkout:
    """The files of a checkout that say which version it is."""

    def __init__(self, folder: Path, *, candidate: bool) -> None:
        self.folder = folder
        self.source = folder / "sinapse" / "__init__.py"
        self.package = folder / "clients" / "js" / "package.json"
        self.changelog = folder / "CHANGELOG.md"
        self.script = folder / ".ci" / "release.py"
        for file in (self.source, self.package, self.script):
            file.parent.mkdir(parents=True)
        shutil.copy(ROOT / ".ci" / "release.py", self.script)
        text = (ROOT / "sinapse" / "__init__.py").read_text()
        version = "1.2.0rc1" if candidate else "1.2.0"
        self.source.write_text(text.replace(sinapse.__version__, version))
        package = json.loads((ROOT / "clients" / "js" / "package.json").read_text())
        package["version"] = "1.2.0-rc.1" if candidate else "1.2.0"
        self.package.write_text(json.dumps(package))
        self.changelog.write_text(CHANGELOG.format(candidate="rc1" if candidate else ""))

    def ask(self, *arguments: str) -> str:
        """Return what the script says; a failure must be one line."""
        asked = subprocess.run(
            [PYTHON, "-I", self.script, *arguments], capture_output=True, text=True, check=False
        )
        if asked.returncode:
            assert asked.stdout == ""
            assert asked.stderr.count("\n") == 1
            return asked.stderr.strip()
        assert asked.stderr == ""
        return asked.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path, candidate=False)


def test_the_versions_of_this_checkout_agree() -> None:
    version = sinapse.__version__
    package = json.loads((ROOT / "clients" / "js" / "package.json").read_text())
    assert package["version"] == version.replace("rc", "-rc.")
    lock = json.loads((ROOT / "clients" / "js" / "package-lock.json").read_text())
    assert lock["version"] == package["version"]
    copy = ROOT / "sinapse" / "publisher" / "django" / "static" / "sinapse" / "sinapse.js"
    assert copy.read_text().startswith(f"/* sinapse-client {package['version']},")


def test_a_release_is_the_latest(checkout: Checkout) -> None:
    facts = checkout.ask("check", "v1.2.0").splitlines()
    assert facts == ["version=1.2.0", "channel=latest", "prerelease=false"]


def test_a_candidate_is_not(tmp_path: Path) -> None:
    candidate = Checkout(tmp_path, candidate=True)
    facts = candidate.ask("check", "v1.2.0rc1").splitlines()
    assert facts == ["version=1.2.0rc1", "channel=next", "prerelease=true"]


@pytest.mark.parametrize("tag", ["1.2.0", "v1.2", "v1.2.0-rc.1", "v1.2.0rc", "v1.2.0\nv1.2.0"])
def test_a_tag_of_another_form_is_refused(checkout: Checkout, tag: str) -> None:
    asked = subprocess.run(
        [PYTHON, "-I", checkout.script, "check", tag], capture_output=True, text=True, check=False
    )
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "is no tag of a release" in asked.stderr


def test_the_file_with_another_version_is_named(checkout: Checkout) -> None:
    assert (
        checkout.ask("check", "v1.2.1")
        == "sinapse/__init__.py has version 1.2.0, and this release is 1.2.1"
    )
    package = json.loads(checkout.package.read_text())
    checkout.package.write_text(json.dumps(package | {"version": "1.1.0"}))
    assert (
        checkout.ask("check", "v1.2.0")
        == "clients/js/package.json has version 1.1.0, and this release is 1.2.0"
    )


@pytest.mark.parametrize("heading", ["## [1.2.0]", "## 1.2.0 - 2026-12-01", "## [1.2.0] - soon"])
def test_a_changelog_without_the_release_is_told(checkout: Checkout, heading: str) -> None:
    text = checkout.changelog.read_text()
    checkout.changelog.write_text(text.replace("## [1.2.0] - 2026-12-01", heading))
    said = "CHANGELOG.md has nothing under ## [1.2.0] - YYYY-MM-DD"
    assert checkout.ask("check", "v1.2.0") == said


def test_a_section_that_is_empty_is_none(checkout: Checkout) -> None:
    checkout.changelog.write_text(
        "# Changelog\n\n## [1.2.0] - 2026-12-01\n\n## [1.1.0] - 2026-11-01\n\n- Older.\n"
    )
    assert "has nothing under" in checkout.ask("check", "v1.2.0")


def test_the_notes_are_its_section_with_links_to_the_repository(checkout: Checkout) -> None:
    assert checkout.ask("notes", "v1.2.0", "https://example.org/us/it") == (
        "### Added\n\n"
        "- [Groups](https://example.org/us/it/blob/v1.2.0/docs/publisher.md#groups), "
        "and [what that is](https://example.org/groups).\n"
    )


def test_what_it_is_not_asked_for_it_explains(checkout: Checkout) -> None:
    assert checkout.ask("notes", "v1.2.0").startswith("usage:")
