"""Text of others, as a terminal may show it: without what it takes for a command."""

import json


def printable(text: str) -> str:
    """Return `text` without what a terminal takes for a command, as an escape sequence is."""
    return "".join(
        each if each.isprintable() or each in "\n\t" else ascii(each)[1:-1] for each in text
    )


def printable_json(value: object) -> str:
    """Return `value` as one line of JSON, of which the same is true."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
