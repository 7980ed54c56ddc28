"""How the site is built of these pages: ``make docs``."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]

import plain  # noqa: E402

from sinapse import __version__  # noqa: E402  # The checkout's own.

project = "Sinapse"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_inline_tabs"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Sinapse"
html_static_path = ["front.css"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
autodoc_typehints = "description"
autodoc_member_order = "bysource"
# Docstrings name classes of libraries whose own documentation is not looked up here.
nitpicky = False
GENERATED = HERE / "_generated"

#: Pages of the repository that are not in this folder, and what they are called in the site.
ELSEWHERE = {
    "readme": "README.md",
    "security": "SECURITY.md",
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
    "client": "clients/js/README.md",
    "examples": "example/README.md",
    "benchmark": "bench/README.md",
    "systemd": "contrib/systemd/README.md",
    "alerts": "contrib/monitoring/README.md",
}

#: What a link or an image points at.
_TARGET = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")


def generate(_app: Sphinx) -> None:
    """Fetch the pages that are elsewhere."""
    shutil.rmtree(GENERATED, ignore_errors=True)
    GENERATED.mkdir()
    for name, source in ELSEWHERE.items():
        shutil.copy(ROOT / source, GENERATED / f"{name}.md")


def lead(_app: Sphinx, name: str, content: list[str]) -> None:
    """Have what a page points at be in the site, too."""
    content[0] = led(name, content[0])


def led(name: str, text: str) -> str:
    """Have what points at files of the repository point at pages of the site, if they are there.

    Of a folder, that is the page on what is in it. Every other file comes along as it is.
    """
    elsewhere = ELSEWHERE.get(name.removeprefix("_generated/"))
    source = HERE / f"{name}.md" if elsewhere is None else ROOT / elsewhere
    pages = {ROOT / source: GENERATED / f"{page}.md" for page, source in ELSEWHERE.items()}

    def target(found: re.Match[str]) -> str:
        path = (source.parent / found[1]).resolve()
        if path.is_dir():
            path /= "README.md"
        if not path.exists():
            return found[1]
        return os.path.relpath(pages.get(path, path), (HERE / name).parent)

    return _TARGET.sub(target, text)


def front(
    app: Sphinx, name: str, _template: str, context: dict[str, object], _doctree: object
) -> None:
    """Have the front page look as a front page does: wide, without a list of its headings."""
    if name == app.config.root_doc:
        app.add_css_file("front.css")
        context["furo_hide_toc"] = True


def finish(app: Sphinx, error: Exception | None) -> None:
    """Write the pages as Markdown, too."""
    if error is None and app.builder.format == "html":
        plain.write(app, lambda name: led(name, (HERE / f"{name}.md").read_text()))


def setup(app: Sphinx) -> None:
    """Have that done before anything is read."""
    app.connect("builder-inited", generate)
    app.connect("source-read", lead)
    app.connect("html-page-context", front, priority=900)  # After the theme has set the page up.
    app.connect("build-finished", finish)
