"""The OpenAPI 3.1 document of the API, made of the operations and their bodies."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from sinapse import __version__
from sinapse.api.bodies import CHANNEL, KIND, MESSAGE_ID, NAME, Failed
from sinapse.api.endpoints import DEFAULT_KIND, Operation

_PARAMETERS = {
    "subject": "Id of the subject, percent-encoded.",
    "channel": "Name of the channel, percent-encoded.",
}

_PATTERNS = {"subject": NAME, "channel": CHANNEL}

#: Statuses that every operation can have besides its own.
_FAILURES = {
    400: "The request cannot be read.",
    401: "The key is missing or unknown.",
    422: "A name or a value is not allowed.",
    503: "Redis is away, or refuses.",
}
_WITH_BODY = {413: "The message is too large.", 415: "The body is not JSON."}


def document(operations: Sequence[Operation]) -> bytes:
    """Return it, as JSON."""
    types = [each for one in operations for each in (one.answer, one.body) if each is not None]
    _, schemas = msgspec.json.schema_components(
        [*dict.fromkeys(types), Failed], ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Sinapse",
                "version": __version__,
                "description": "Publish messages, and say who may receive them.",
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [{"url": "/", "description": "Where this document is."}],
            "security": [{"key": []}],
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _described(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary}
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PARAMETERS[name],
            "schema": {"type": "string", "pattern": _PATTERNS[name], "maxLength": 512},
        }
        for name in re.findall(r"\{(\w+)\}", operation.path)
    ]
    if operation.has_kind:
        parameters.append(
            {
                "name": "kind",
                "in": "query",
                "required": False,
                "description": "Name of the subject's class.",
                "schema": {"type": "string", "default": DEFAULT_KIND, "pattern": KIND},
            }
        )
    if operation.takes_key:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "What has the same key is published once; printable characters.",
                "schema": {"type": "string", "pattern": MESSAGE_ID},
            }
        )
    if parameters:
        described["parameters"] = parameters
    failures = dict(_FAILURES)
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.body)}
        failures |= _WITH_BODY
    if operation.tells_token:
        failures[409] = "Tokens are hashed: only the hash of the current one is known."
    if operation.missing:
        failures[404] = operation.missing.capitalize() + "."
    responses = {
        str(status): {"description": text, "content": _content(Failed)}
        for status, text in sorted(failures.items())
    }
    assert operation.answer is not None  # noqa: S101
    done = {"description": "Done.", "content": _content(operation.answer)}
    described["responses"] = {"200": done, **responses}
    return described


def _content(kind: type[msgspec.Struct]) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"application/json": {"schema": reference}}
