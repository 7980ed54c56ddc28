"""Pages as Markdown beside the HTML, and ``llms.txt`` (https://llmstxt.org), which lists them.

For programs that read: ``llms-full.txt`` has all pages in one file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from sphinx.application import Sphinx

#: What a link or an image points at.
_TARGET = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")

_TOCTREE = re.compile(
    r"^```\{toctree\}\n:caption: (.+)\n(?::.+\n)*\n((?:.+\n)+)```\n", re.MULTILINE
)
_TITLED = re.compile(r"(?:.* )?<(.+)>|(.+)")
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)

#: What is no text, and a paragraph of text: the first sentence of a page says what it is for.
_BLOCK = re.compile(r"^(`{3,}|:{3,})[\s\S]*?^\1", re.MULTILINE)
_PARAGRAPH = re.compile(r"(?<=\n\n)(?![-|>#!<\s]|\d+\.)(?:.+\n)+")
_SENTENCE = re.compile(r".+?[.:](?=\s|$)")
#: What is there for the look of a page alone; and a tab, which has a title.
_LOOK = re.compile(r"^```\{raw\} html\n[\s\S]*?^```\n|^:::(?:\{container\} .+)?\n", re.MULTILINE)
_TAB = re.compile(r"^:::\{tab\} (.+)\n", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


def write(app: Sphinx, markdown_of: Callable[[str], str]) -> None:
    """Write the pages beside the HTML; `markdown_of` gives a page as it is read."""
    folder = Path(app.outdir)
    index = _with_files(app, "index", markdown_of("index"))
    lines = [f"# {app.config.project}", "", f"> {_summary(index)}", ""]
    front = _LOOK.sub("", _TAB.sub(r"**\1**\n\n", _TOCTREE.sub("", index))).rstrip() + "\n"
    texts = {"index": front}
    for caption, names in sections(index):
        lines += [f"## {caption}", ""]
        for name in names:
            text = _with_files(app, name, markdown_of(name))
            page = folder / f"{name}.md"
            page.parent.mkdir(exist_ok=True)
            page.write_text(text)
            lines.append(f"- [{_title(text)}]({name}.md): {_summary(text)}")
            texts[name] = text
        lines.append("")
    (folder / "llms.txt").write_text("\n".join(lines))
    whole = (_from_the_top(folder, name, text) for name, text in texts.items())
    (folder / "llms-full.txt").write_text("\n\n".join(whole))


def sections(index: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the captions of the first page, each with the names of its pages."""
    for caption, entries in _TOCTREE.findall(index):
        matches = map(_TITLED.fullmatch, entries.splitlines())
        yield caption, [match[1] or match[2] for match in matches if match]


def _title(text: str) -> str:
    match = _TITLE.search(text)
    return _LINK.sub(r"\1", match[1]) if match else ""


def _summary(text: str) -> str:
    """Return the first sentence of a page."""
    paragraph = _PARAGRAPH.search(_BLOCK.sub("", _TITLE.sub("", text, count=1)))
    joined = " ".join(_LINK.sub(r"\1", paragraph[0]).split()) if paragraph else ""
    sentence = _SENTENCE.match(joined)
    return (sentence[0] if sentence else joined).replace("**", "").rstrip(":")


def _from_the_top(folder: Path, name: str, text: str) -> str:
    """Have what points at files of the site do so from its top, where all pages are in one file."""
    place = Path(name).parent

    def target(found: re.Match[str]) -> str:
        path = os.path.normpath(place / found[1])
        return path if (folder / path).exists() else found[1]

    return _TARGET.sub(target, text)


def _with_files(app: Sphinx, name: str, text: str) -> str:
    """Have what points at files that are no pages point at where the site has them."""
    source = Path(app.srcdir)
    places = {
        source / file: f"{kind}/{place}"
        for kind, files in (("_downloads", app.env.dlfiles), ("_images", app.env.images))
        for file, (_, place) in files.items()
    }
    resolved = {path.resolve(): place for path, place in places.items()}

    def target(found: re.Match[str]) -> str:
        place = resolved.get((source / name).parent.joinpath(found[1]).resolve())
        return found[1] if place is None else os.path.relpath(place, Path(name).parent)

    return _TARGET.sub(target, text)
