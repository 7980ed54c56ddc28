"""Whether a client takes gzip: Accept-Encoding (RFC 9110 §12.5.3)."""

import re
from collections.abc import Iterator, Sequence

#: Elements of the field: clients have five at most, and each takes some time to read.
MAX_ELEMENTS = 20

#: The names of gzip: the second is an old one (RFC 9110 §8.4.1.3).
_GZIP = (b"gzip", b"x-gzip")

# A weight (RFC 9110 §12.4.2), as it is without white space and capitals.
_WEIGHT = re.compile(rb"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def accepts_gzip(fields: Sequence[bytes]) -> bool:
    """Whether a client that sends these fields takes gzip, and likes nothing plain better.

    What is no element counts as if it was not there.
    """
    field = b",".join(fields)
    if field.count(b",") >= MAX_ELEMENTS:
        return False
    weights = dict(_elements(field))
    rest = weights.get(b"*", 0)
    gzip = max((weights[name] for name in _GZIP if name in weights), default=rest)
    return gzip > 0 and gzip >= weights.get(b"identity", 0)


def _elements(field: bytes) -> Iterator[tuple[bytes, float]]:
    """Yield the name of each coding, and its weight."""
    for element in field.lower().split(b","):
        name, semicolon, weight = (part.strip(b" \t") for part in element.partition(b";"))
        if not semicolon:
            yield name, 1
        elif matched := _WEIGHT.fullmatch(weight):
            yield name, float(matched[1])
