"""The first pages, and the first section of each how-to: from pip to a message in Chromium."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import PYTHON
from tests.support.browser import Browser, _first_browser, browser
from tests.support.building import run
from tests.support.daemon import ROOT
from tests.support.walkthrough import (
    SERVERS,
    Walkthrough,
    lines_of_code,
    read,
    sections,
    walking,
)

__all__ = ["_first_browser", "browser"]

# Virtual environments, and downloads from the package index.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

#: Pages, and the port that the reader opens.
PAGES = {"howto-django.md": 8000, "howto-flask.md": 5000, "howto-fastapi.md": 8000}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build what a user would install, of a copy of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    leftovers = shutil.ignore_patterns(
        ".*", "__pycache__", "node_modules", "build", "dist", "*.egg-info"
    )
    shutil.copytree(ROOT, folder / "checkout", ignore=leftovers)
    command = (PYTHON, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder)
    run(*command, folder / "checkout", cwd=folder)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return an empty folder, whose name is short enough for the socket of the private Valkey.

    It is in memory where it can be: a virtual environment is thousands of small files.
    """
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="sinapse-", dir=memory) as name:
        yield Path(name)


@pytest.mark.parametrize("page", PAGES)
def test_the_reader_writes_fewer_than_22_lines_in_one_terminal(page: str) -> None:
    blocks = read(sections(page)[0])
    assert 0 < lines_of_code(blocks) < 22
    *before, server = [
        line for block in blocks if not block.file for line in block.text.split("\n")[:-1]
    ]
    assert server.startswith(SERVERS)
    assert not any(line.startswith(SERVERS) for line in before)


def test_the_tutorial(wheel: Path, folder: Path, browser: Browser) -> None:
    """From its first command to its last, in its own order."""
    *steps, in_python, _ = sections("tutorial.md")
    assert in_python.startswith("In your application")  # It is run by test_snippets.
    walkthrough = Walkthrough(folder, wheel)
    try:
        for step in steps:
            walkthrough.walk(read(step), browser)
    finally:
        walkthrough.end()
    # What was published while she might not hear it is in no log of hers.
    assert "Ada does not hear this" not in walkthrough.logs
    assert walkthrough.logs.count("While you were away") == 1
    browser.forget()


def test_a_first_page_and_a_bar_in_it(wheel: Path, folder: Path, browser: Browser) -> None:
    """Without a framework; and the page on progress goes on in the same folder."""
    daemon, page, message, *_ = sections("first-page.md")
    bar, *_ = sections("howto-progress.md")
    walkthrough = Walkthrough(folder, wheel)
    try:
        for step in (daemon, page, message, bar):
            walkthrough.walk(read(step), browser)
        assert browser.run("return document.querySelector('progress').value") == 100
        browser.driver.refresh()  # A page that comes later shows the same.
        browser.eventually("document.querySelector('progress')?.value === 100")
        browser.eventually("document.body.innerText.includes('done')")
    finally:
        walkthrough.end()
    browser.forget()


def say_something(browser: Browser) -> None:
    """Write into a page, and see it there and in another one."""
    first = browser.driver.current_window_handle
    page = browser.driver.current_url
    browser.driver.switch_to.new_window("window")
    browser.open(page)
    browser.write("input[name=text]", "Hello, Ada")
    shown = "document.getElementById('news').innerText === 'Hello, Ada'"
    browser.eventually(shown)
    browser.driver.close()
    browser.driver.switch_to.window(first)
    browser.eventually(shown)
    browser.forget()


def test_django(wheel: Path, folder: Path, browser: Browser) -> None:
    page = "howto-django.md"
    with walking(folder, wheel, page) as walkthrough:
        browser.open(f"http://localhost:{walkthrough.port(PAGES[page])}/")
        browser.write("#id_username", "ada")
        browser.write("#id_password", "secret")
        browser.eventually("document.getElementById('news') !== null")
        say_something(browser)


@pytest.mark.parametrize("page", ["howto-flask.md", "howto-fastapi.md"])
def test_flask_and_fastapi(wheel: Path, folder: Path, browser: Browser, page: str) -> None:
    with walking(folder, wheel, page) as walkthrough:
        browser.open(f"http://localhost:{walkthrough.port(PAGES[page])}/")
        say_something(browser)


def test_answers(wheel: Path, folder: Path, browser: Browser) -> None:
    """The example, and the page that the reader writes: asked once, reloaded in the midst."""
    first, own, *_ = sections("howto-answers.md")
    walkthrough = Walkthrough(folder, wheel)
    question = "What do I see after a reload?"
    try:
        for section, port, begin, end in (
            (first, 8000, "I know nothing", "nothing of this is missing."),
            (own, 8001, "You have asked:", question),
        ):
            walkthrough.walk(read(section), browser)
            browser.open(f"http://localhost:{walkthrough.port(port)}/")
            shown = "document.body.innerText.replace(/\\s+/g, ' ').includes(arguments[0])"
            browser.write("input[name=question]", question)
            browser.eventually(shown, begin)
            browser.driver.refresh()
            browser.eventually(f"{shown} && {shown.replace('[0]', '[1]')}", begin, end)
            assert browser.run("return document.body.innerText").count(begin) == 1
    finally:
        walkthrough.end()
    browser.forget()
