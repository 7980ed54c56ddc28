"""The OpenAPI 3.1 document of the API, made of the endpoints and their bodies."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from sinapse import __version__
from sinapse.api.bodies import CHANNEL, GROUP, MESSAGE_ID, NAME, SESSION, Failed
from sinapse.api.endpoints import Endpoint

_PARAMETERS = {
    "subject": "Id of the subject, percent-encoded.",
    "channel": "Name of the channel, percent-encoded.",
    "session": "Id of the session.",
    "group": "Name of the group, percent-encoded.",
}

_PATTERNS = {"subject": NAME, "channel": CHANNEL, "session": SESSION, "group": GROUP}

#: Statuses that every endpoint can have besides its own.
_FAILURES = {
    400: "The request cannot be read.",
    401: "The key is missing or unknown.",
    422: "A name or a value is not allowed.",
    503: "Redis is away, or refuses.",
}
_WITH_BODY = {413: "The message is too large.", 415: "The body is not JSON."}
_WITH_TOKEN = {409: "Redis has only the hash of the token."}
_WITH_BOUND = {409: "There are as many as there may be."}
_WITH_ID = {410: "The id was never given by this Redis, or is lost."}


def document(endpoints: Sequence[Endpoint]) -> bytes:
    """Return it, as JSON."""
    types = [each for one in endpoints for each in (one.answer, one.body) if each is not None]
    _, schemas = msgspec.json.schema_components(
        [*dict.fromkeys(types), Failed], ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _described(endpoint)
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


def _described(endpoint: Endpoint) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": endpoint.name, "summary": endpoint.summary}
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PARAMETERS[name],
            "schema": {"type": "string", "pattern": _PATTERNS[name], "maxLength": 512},
        }
        for name in re.findall(r"\{(\w+)\}", endpoint.path)
    ]
    parameters += [
        {
            "name": each.name,
            "in": "query",
            "required": False,
            "description": each.description,
            "schema": each.schema,
        }
        for each in endpoint.query
    ]
    if endpoint.takes_key:
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
    if endpoint.body is not None:
        described["requestBody"] = {
            "required": not endpoint.may_have_none,
            "content": _content(endpoint.body),
        }
        failures |= _WITH_BODY
    if endpoint.tells_token:
        failures |= _WITH_TOKEN
    if endpoint.has_bound:
        failures |= _WITH_BOUND
    if endpoint.takes_id:
        failures |= _WITH_ID
    if endpoint.missing:
        failures[404] = endpoint.missing.capitalize() + "."
    responses = {
        str(status): {"description": text, "content": _content(Failed)}
        for status, text in sorted(failures.items())
    }
    assert endpoint.answer is not None  # noqa: S101
    done = {"description": "Done.", "content": _content(endpoint.answer)}
    described["responses"] = {"200": done, **responses}
    return described


def _content(kind: type[msgspec.Struct]) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"application/json": {"schema": reference}}
