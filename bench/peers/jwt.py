"""Tokens for hubs that are told in the token itself what its owner may hear."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

KEY = "a key of at least 32 bytes, for HS256"


def token(claims: Mapping[str, Any], kind: str = "JWT") -> str:
    """Return claims signed with `KEY`, RFC 7515."""
    parts = ({"alg": "HS256", "typ": kind}, claims)
    signed = b".".join(_encode(json.dumps(part).encode()) for part in parts)
    signature = hmac.digest(KEY.encode(), signed, hashlib.sha256)
    return b".".join((signed, _encode(signature))).decode()


def _encode(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
