"""The pages: the site is built of them without a warning, and what they point at is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from sinapse.settings import OPTIONS
from tests.daemon import ROOT
from tests.support import PYTHON

PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("[bce]*/**/*.md"))
    if not {"node_modules", "_build", "build"} & set(path.parts)
)

LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCED.sub("", page.read_text())
    targets = [link.partition("#")[0] for link in LINK.findall(text) if "://" not in link]
    missing = [target for target in targets if target and not (page.parent / target).exists()]
    assert missing == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as ``make docs`` does."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [
            *(PYTHON, "-m", "sphinx", "--fail-on-warning", "--keep-going", "-q"),
            *("-d", str(folder / "doctrees"), "docs", str(folder / "html")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"


@pytest.mark.timeout(180)
def test_every_page_is_in_the_site_and_options_are_those_of_the_code(site: Path) -> None:
    index = (site / "index.html").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"{page.stem}.html" in index or page.stem == "index"
    options = (site / "_generated" / "options.html").read_text()
    for option in OPTIONS:
        assert f"--{option.name}" in options
        assert option.variable in options
    assert "sinapse.publisher.Publisher.publish" in (site / "library.html").read_text()
