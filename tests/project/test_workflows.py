"""The workflows: valid, trusted with no more than they need, and what they run is there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.building import run
from tests.support.checkers import actionlint
from tests.support.daemon import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

#: An action, at a commit that nobody can move, with the version that it is.
PINNED = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")

#: Jobs that may do more than read the source, and what. None of them builds anything for others.
TRUSTED = {
    "pypi": {"id-token"},
    "npm": {"id-token"},
    "image": {"packages"},
    "site": {"pages", "id-token"},
    "notes": {"contents"},
}


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all jobs with their names."""
    for path in WORKFLOWS:
        yield from yaml.safe_load(path.read_text())["jobs"].items()


def commands() -> Iterator[str]:
    """Yield all that they run."""
    for _, job in jobs():
        yield from (step["run"] for step in job.get("steps", ()) if "run" in step)


@pytest.mark.timeout(300)  # It may have to be built.
def test_actionlint_finds_nothing() -> None:
    # What else is on the machine must not decide what it finds.
    run(actionlint(), "-shellcheck=", "-pyflakes=", *WORKFLOWS, cwd=ROOT)


def test_they_are_what_the_schema_says() -> None:
    program = Path(sys.executable).parent / "check-jsonschema"
    run(program, "--builtin-schema", "vendor.github-workflows", *WORKFLOWS, cwd=ROOT)


def test_all_actions_are_pinned() -> None:
    used = [
        line.partition("uses: ")[2]
        for path in WORKFLOWS
        for line in path.read_text().splitlines()
        if "uses: " in line
    ]
    assert len(used) > 20
    ours = {"./.github/workflows/ci.yml"}
    assert [action for action in used if action not in ours and not PINNED.fullmatch(action)] == []


def test_an_action_has_the_same_version_everywhere() -> None:
    text = "".join(path.read_text() for path in WORKFLOWS)
    pins = {pin.split("@")[0]: pin for pin in PINNED.findall(text)}
    assert sorted(pins.values()) == sorted(set(PINNED.findall(text)))


def test_who_may_do_more_than_read_is_known() -> None:
    for path in WORKFLOWS:
        assert yaml.safe_load(path.read_text())["permissions"] in ({}, {"contents": "read"}), path
    may = {
        name: {what for what, how in job.get("permissions", {}).items() if how == "write"}
        for name, job in jobs()
    }
    assert {name: what for name, what in may.items() if what} == TRUSTED


def test_no_job_keeps_what_opens_the_repository() -> None:
    for name, job in jobs():
        for step in job.get("steps", ()):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, name


def test_every_job_ends_some_time() -> None:
    assert [name for name, job in jobs() if not ("timeout-minutes" in job or "uses" in job)] == []


def test_what_they_run_is_there() -> None:
    text = "\n".join(commands())
    scripts = set(re.findall(r"\.ci/[\w.]+", text))
    assert scripts == {".ci/run", ".ci/release.py"}
    assert all((ROOT / script).is_file() for script in scripts)
    targets = set(re.findall(r"^make ([\w-]+)", text, re.MULTILINE))
    assert targets == {"dist", "dist-client", "docs", "test"}
    for target in targets:
        question = ("make", "--dry-run", target, "REPOSITORY=https://example.org")
        asked = subprocess.run(question, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "No rule to make target" not in asked.stderr
