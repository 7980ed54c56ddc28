"""What ``setup.cfg`` cannot say: the text for package indexes, which is the readme without links.

Pages and pictures that the readme names are in the repository. An index has none of them, and would
show dead links.
"""

import re
from pathlib import Path

from setuptools import setup

#: A link or a picture by its relative address: on an index, that is a page of the index.
_RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:)[^)]*\)\n?")


def _without(found: re.Match[str]) -> str:
    end = "\n" if found[0].endswith("\n") else ""
    return "" if found[1] else found[2] + end


readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
setup(
    long_description=_RELATIVE.sub(_without, readme),
    long_description_content_type="text/markdown",
)
