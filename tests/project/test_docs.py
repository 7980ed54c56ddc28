"""The pages: the site is built of them without a warning, and what they point at is there."""

from __future__ import annotations

import configparser
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import sinapse
from sinapse.errors import CloseReason
from sinapse.settings import OPTIONS
from sinapse.web.limits import REASONS
from tests.support import PYTHON
from tests.support.daemon import ROOT
from tests.support.site import site

__all__ = ["site"]

PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("[bce]*/**/*.md"))
    if not {"node_modules", "_build", "build"} & set(path.parts)
)

LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
#: What it points at that is beside the page.
TARGET = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)")
#: What a page, or an error of ours, tells to install.
INSTALL = re.compile(r"pip install((?: (?:'[^'\n]+'|[A-Za-z][\w.-]*))+)")
REQUIREMENT = re.compile(r"([A-Za-z][\w.-]*)(?:\[([\w,-]+)\])?")

#: Our own name, with extras or without, wherever it is said.
OURS = re.compile(r"(?<![\w./-])(sinapse[\w-]*)\[([a-z]+(?:,[a-z]+)*)\]")

#: What else is on PyPI, and is told to be installed beside a dependency of ours.
OTHERS = {"atheris", "itsdangerous", "jinja2"}

FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCED.sub("", page.read_text())
    targets = [link.partition("#")[0] for link in LINK.findall(text) if "://" not in link]
    missing = [target for target in targets if target and not (page.parent / target).exists()]
    assert missing == []


def _names(requirements: str) -> set[str]:
    return set(re.findall(r"^[A-Za-z][\w-]*", requirements, re.MULTILINE))


def test_what_is_told_to_be_installed_is_there() -> None:
    """On PyPI, the name of the import is somebody else's package."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    ours = setup["metadata"]["name"]
    extras = setup["options.extras_require"]
    known = _names(setup["options"]["install_requires"]) | OTHERS
    known |= {name for extra in extras.values() for name in _names(extra)}
    told = []
    for path in (*PAGES, *ROOT.glob("[cest]*/**/*.py"), *ROOT.glob("contrib/**/*")):
        if not path.is_file() or "node_modules" in path.parts:
            continue
        text = path.read_text()
        for command in INSTALL.findall(text):
            for name, wanted in REQUIREMENT.findall(command):
                told.append((name, wanted))
                assert name == ours or (name in known and not wanted), (path, command)
        for name, wanted in OURS.findall(text):
            assert name == ours, path
            assert set(wanted.split(",")) <= set(extras), path
    assert (ours, "demo") in told


class _Page(HTMLParser):
    """What a page of the site points at, and what in it can be pointed at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors = {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.anchors.add(value or "")
            elif name == "src" or (name == "href" and tag != "link"):
                self.targets.append(value or "")


@pytest.mark.timeout(180)
def test_links_of_the_site_lead_somewhere(site: Path) -> None:
    pages = {path: _Page(path) for path in site.rglob("*.html")}
    missing = []
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages[place].anchors if place in pages else {"", parts.fragment}
            if not place.is_file() or unquote(parts.fragment) not in known:
                missing.append((path.name, target))
    assert missing == []
    assert any("_downloads" in target for page in pages.values() for target in page.targets)


@pytest.mark.timeout(180)
def test_pages_are_there_as_markdown_and_in_a_list(site: Path) -> None:
    listed = re.findall(
        r"^- \[(.+)\]\((.+)\): (.+)$", (site / "llms.txt").read_text(), re.MULTILINE
    )
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.md")}
    assert {page for _, page, _ in listed} == pages
    expected = {f"{page.stem}.md" for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert expected <= pages
    whole = (site / "llms-full.txt").read_text()
    front, _ = whole.split("\n## All pages\n", 1)
    assert "\n**2. Who may listen**\n" in front
    assert not re.search(r"^:::|\{raw\}|<label", front, re.MULTILINE)
    texts = {"llms-full.txt": whole}
    for title, page, summary in listed:
        text = texts[page] = (site / page).read_text()
        # But for where links lead to, of pages that are in a folder.
        assert TARGET.sub("](", text) in TARGET.sub("](", whole)
        assert title in text
        assert 10 < len(summary) < 400, page
    missing = [
        (page, target)
        for page, text in texts.items()
        for target in TARGET.findall(text)
        if not (site / page).parent.joinpath(unquote(target)).is_file()
    ]
    assert missing == []


@pytest.mark.timeout(180)
def test_what_is_said_of_answers_and_security_is_in_the_site(site: Path) -> None:
    security, client = (
        (site / "_generated" / f"{name}.html").read_text() for name in ("security", "client")
    )
    assert "4003" in (site / "answers.html").read_text()
    assert "What is not defended" in security
    assert "sinapse-client" in client


@pytest.mark.timeout(180)
def test_every_page_is_in_the_site_and_options_are_those_of_the_code(site: Path) -> None:
    index = (site / "index.html").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"{page.stem}.html" in index or page.stem == "index"
    options = (site / "options.html").read_text()
    for option in OPTIONS:
        assert f"--{option.name}" in options
        assert option.variable in options
    assert "<table" not in options  # On a narrow screen, half of it would not be seen.
    assert "sinapse.publisher.Publisher.publish" in (site / "library.html").read_text()


def test_the_options_are_listed_as_they_are_declared() -> None:
    script = ROOT / "docs" / "options.py"
    assert subprocess.run([PYTHON, str(script), "--check"], check=False).returncode == 0


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").stat().st_size <= 8 * 1024


def test_the_readme_names_the_version_and_what_it_needs() -> None:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    status = next(
        line
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith("Version ")
    )
    assert f"Version {sinapse.__version__} " in status
    assert f"Python {setup['options']['python_requires'].removeprefix('>=')} " in status
    assert f"{setup['metadata']['license_expression']} licence" in status
    is_beta = "Development Status :: 4 - Beta" in setup["metadata"]["classifiers"]
    assert ("(beta)" in status) == is_beta


def test_the_front_page_has_a_command_and_shows_a_result() -> None:
    front, *_ = (ROOT / "docs" / "index.md").read_text().partition("```{toctree}")
    assert "\n```sh\npip install 'sinapse-push[demo]'\nsinapse demo" in front
    assert re.search(r"!\[[^]]+\]\(chat\.png\)", front)


def test_the_glossary_is_in_order_and_has_a_sentence_for_each_word() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text()
    entries = re.findall(r"^([a-z].+)\n: ((?:.+\n)(?:  .+\n)*)", text, re.MULTILINE | re.IGNORECASE)
    words = [word for word, _ in entries]
    assert words == sorted(words)
    for word, sentence in entries:
        assert len(re.findall(r"\.(?:\s|$)", sentence)) == 1, word
    assert {"joining", "held", "tape", "gap", "bundle", "place"} <= set(words)
    assert "## Words" not in (ROOT / "docs" / "design.md").read_text()


def test_the_page_on_the_design_is_short() -> None:
    assert (ROOT / "docs" / "design.md").stat().st_size <= 12 * 1024


def test_the_answers_have_every_close_code_and_status() -> None:
    """Of close codes all but those that no client is sent; of statuses those that are our own."""
    page = (ROOT / "docs" / "answers.md").read_text()
    statuses, codes = (
        {
            int(each)
            for row in re.findall(r"^\| ([\d, ]+) \|", part, re.MULTILINE)
            for each in row.split(",")
        }
        for part in page.split("## Close codes")
    )
    unsent = {CloseReason.CLIENT_GONE.code, CloseReason.ANSWERED.code}
    assert codes >= {each.code for each in CloseReason} - unsent
    assert statuses >= {101, 200, 204, 400, 401, 403, 404, 405, 406, 429, 503, *REASONS}
