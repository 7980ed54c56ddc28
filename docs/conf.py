"""How the site is built of these pages: ``make docs``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from sinapse import __version__  # noqa: E402  # The checkout's own.
from sinapse.settings import OPTIONS  # noqa: E402

project = "Sinapse"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Sinapse"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
autodoc_typehints = "description"
autodoc_member_order = "bysource"
# Docstrings name classes of libraries whose own documentation is not looked up here.
nitpicky = False
# Pages point at folders and files of the repository; that these exist is what tests/test_docs.py
# looks after.
suppress_warnings = ["myst.xref_missing"]

GENERATED = HERE / "_generated"


def generate(_app: Sphinx) -> None:
    """Write the pages that are made of the code."""
    shutil.rmtree(GENERATED, ignore_errors=True)
    GENERATED.mkdir()
    lines = [
        "# Options of the daemon",
        "",
        "Of `twistd sinapse` and `sinapse serve`; the command line wins over the environment.",
        "",
        "| option | environment | default | |",
        "|---|---|---|---|",
    ]
    for option in OPTIONS:
        names = f"`-{option.short}`, `--{option.name}`" if option.short else f"`--{option.name}`"
        default = f"`{option.default}`" if option.default else "off"
        text = option.help.replace("|", "\\|").replace("*", "\\*")
        lines.append(f"| {names} | `{option.variable}` | {default} | {text} |")
    (GENERATED / "options.md").write_text("\n".join(lines) + "\n")
    changes = (ROOT / "CHANGELOG.md").read_text().replace("](docs/", "](../")
    (GENERATED / "changelog.md").write_text(changes)


def setup(app: Sphinx) -> None:
    """Have that done before anything is read."""
    app.connect("builder-inited", generate)
