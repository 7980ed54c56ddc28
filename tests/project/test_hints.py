"""Hints of the library: what is not said type checkers infer, each in its own way or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checkers import known_types

# It may have to download Pyright.
pytestmark = pytest.mark.timeout(300)


def test_the_types_of_all_that_is_public_are_known(tmp_path: Path) -> None:
    report = known_types("sinapse.publisher", tmp_path)
    types = report["typeCompleteness"]
    wrong = [
        f"{symbol['name']}: {each['message']}"
        for symbol in types["symbols"]
        if symbol["isExported"]
        for each in symbol["diagnostics"]
        if each["severity"] == "error"
    ]
    assert not wrong, "\n".join(wrong)
    assert "sinapse.publisher.django.admin" in {each["name"] for each in types["modules"]}
    assert report["generalDiagnostics"] == []
    assert types["completenessScore"] == 1
