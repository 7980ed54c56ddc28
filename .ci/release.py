"""What a release needs to know of the checkout; it imports nothing that has to be installed.

    python3 .ci/release.py check v1.2.0         facts, as lines for GITHUB_OUTPUT
    python3 .ci/release.py notes v1.2.0 URL     its section of the changelog, in Markdown

Links of the changelog then lead to the repository at URL. What does not fit ends with one line.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

#: `v1.2.0`, or a candidate for it: `v1.2.0rc1`. There are no other releases.
TAG = re.compile(r"v(\d+\.\d+\.\d+)(?:rc(\d+))?")

#: A link that leads neither elsewhere nor within the page.
RELATIVE = re.compile(r"\]\((?![a-z]+:|#)([^)\s]+)\)")


class Release(NamedTuple):
    """A release, as its tag names it."""

    numbers: str
    candidate: str | None

    @property
    def version(self) -> str:
        """The version, as Python writes it."""
        return f"{self.numbers}rc{self.candidate}" if self.candidate else self.numbers

    @property
    def npm_version(self) -> str:
        """The version, as npm writes it."""
        return f"{self.numbers}-rc.{self.candidate}" if self.candidate else self.numbers


def release_of(tag: str) -> Release:
    """Return the release that `tag` names."""
    found = TAG.fullmatch(tag)
    if found is None:
        sys.exit(f"{tag} is no tag of a release: they are like v1.2.0 and v1.2.0rc1")
    return Release(found[1], found[2])


def must_be(file: str, version: str, expected: str) -> None:
    """End the program if a file has a version that is not that of the release."""
    if version != expected:
        sys.exit(f"{file} has version {version}, and this release is {expected}")


def check(release: Release) -> dict[str, str]:
    """Return the facts; all files have to say the same."""
    source = (ROOT / "sinapse/__init__.py").read_text()
    [version] = re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    must_be("sinapse/__init__.py", version, release.version)
    package = json.loads((ROOT / "clients/js/package.json").read_text())
    must_be("clients/js/package.json", package["version"], release.npm_version)
    section(release)
    return {
        "version": release.version,
        "channel": "next" if release.candidate else "latest",
        "prerelease": "true" if release.candidate else "false",
    }


def section(release: Release) -> str:
    """Return what the changelog says of the release, without the heading."""
    heading = rf"^## \[{re.escape(release.version)}\] - \d{{4}}-\d\d-\d\d\n"
    changelog = (ROOT / "CHANGELOG.md").read_text()
    found = re.search(rf"{heading}(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if found is None or not found[1].strip():
        sys.exit(f"CHANGELOG.md has nothing under ## [{release.version}] - YYYY-MM-DD")
    return found[1].strip()


def main() -> None:
    """Do what the command line says."""
    match sys.argv[1:]:
        case ["check", tag]:
            for name, value in check(release_of(tag)).items():
                print(f"{name}={value}")
        case ["notes", tag, repository]:
            print(RELATIVE.sub(rf"]({repository}/blob/{tag}/\1)", section(release_of(tag))))
        case _:
            sys.exit("usage: release.py check TAG | release.py notes TAG URL")


if __name__ == "__main__":
    main()
