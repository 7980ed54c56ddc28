"""A request of the API, and what may stand in its query."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sinapse.api.bodies import KIND, NAME, SESSION
from sinapse.publisher.operations.groups import MAX_PAGE, PAGE
from sinapse.publisher.operations.history import LIMIT, MAX_ID_LENGTH, MAX_LIMIT
from sinapse.publisher.operations.tokens import USER
from sinapse.publisher.tx import Publisher

#: Digits of a number, at the most: Python does not read thousands of them.
_DIGITS = 20


class Parameter(NamedTuple):
    """A parameter of the query, which may be left out."""

    name: str
    description: str
    schema: Mapping[str, Any]


KIND_OF_SUBJECT = Parameter(
    "kind",
    "Name of the subject's class.",
    {"type": "string", "default": USER, "pattern": KIND},
)
AFTER = Parameter(
    "after",
    "An id, as messages and positions have it, to read after; without one all is read.",
    {"type": "string", "maxLength": MAX_ID_LENGTH},
)
READ = Parameter(
    "limit",
    "How many messages, at the most.",
    {"type": "integer", "default": LIMIT, "minimum": 1, "maximum": MAX_LIMIT},
)

AFTER_MEMBER = Parameter(
    "after",
    "The id of a subject, to read after; without one the first are read.",
    {"type": "string", "maxLength": 512, "pattern": NAME},
)
MEMBERS = Parameter(
    "limit",
    "How many members, at the most.",
    {"type": "integer", "default": PAGE, "minimum": 1, "maximum": MAX_PAGE},
)

BUT = Parameter(
    "but",
    "The id of a session that stays.",
    {"type": "string", "pattern": SESSION},
)


class Call(NamedTuple):
    """A request, checked."""

    publisher: Publisher
    path: Mapping[str, str]
    body: Any
    """Of the type that the operation names; None if it has none."""
    query: Mapping[str, str]
    """The parameters that were given, each once; the endpoint takes all of them."""
    idempotency_key: str | None

    @property
    def kind(self) -> str:
        """Name of the subject's class."""
        return self.query.get(KIND_OF_SUBJECT.name, USER)

    def limit(self, parameter: Parameter) -> int:
        """Return how many are asked for; raises ``ValueError`` for what is no number."""
        text = self.query.get(parameter.name, str(parameter.schema["default"]))
        if not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
            raise ValueError(f"limit is a whole number: {text!r:.80}")
        return int(text)
