"""Writes the list in ``options.md`` from the code: ``python docs/options.py``.

With ``--check`` it only says whether it is there as it should be.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from sinapse.settings import groups  # noqa: E402  # The checkout's own.

PAGE = HERE / "options.md"
BEGIN, END = "<!-- list -->\n", "<!-- end of list -->\n"


def listed() -> Iterator[str]:
    """Yield the lines of the list; no table, of which narrow screens show half."""
    for title, options in groups():
        yield f"\n## {title}\n"
        for option in options:
            short = f"`-{option.short}`, " if option.short else ""
            default = f"`{option.default}`" if option.default else "off"
            text = option.help.replace("*", "\\*")
            names = f"{short}**`--{option.name}`**, `{option.variable}`"
            yield f"- {names}, by default {default}. {text}"
    yield ""


def main() -> int:
    """Write the page, or compare it; returns the exit code."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    text = before + BEGIN + "\n".join(listed()) + "\n" + END + after
    if "--check" in sys.argv:
        return int(text != PAGE.read_text())
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
