"""The live page: one document, which makes requests to this endpoint only.

Its parts are the files in ``static``. They are put together here, and the policy names them by
their hashes (Content Security Policy Level 3 §2.3.1): no other script can run, and no request can
go elsewhere.
"""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from twisted.web.resource import Resource
from twisted.web.server import Request

from sinapse.web.answers import Plain, respond

_FOLDER = Path(__file__).parent / "static"

# Where the document refers to another file.
_STYLE = re.compile(r'<link rel="stylesheet" href="([a-z.]+)">')
_SCRIPT = re.compile(r'<script( type="module")? src="([a-z.]+)"></script>')

#: Nothing is allowed that is not named.
_POLICY = (
    "default-src 'none'",
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)


class Page(Plain):
    """``/``."""

    def __init__(self) -> None:
        super().__init__()
        hashes: dict[str, list[str]] = {"style": [], "script": []}

        def read(kind: str, name: str) -> str:
            text = (_FOLDER / name).read_text("utf-8")
            digest = b64encode(sha256(text.encode()).digest()).decode()
            hashes[kind].append(f"'sha256-{digest}'")
            return text

        document = (_FOLDER / "page.html").read_text("utf-8")
        document = _STYLE.sub(lambda found: f"<style>{read('style', found[1])}</style>", document)
        document = _SCRIPT.sub(
            lambda found: f"<script{found[1] or ''}>{read('script', found[2])}</script>", document
        )
        self._body = document.encode()
        sources = [f"{kind}-src {' '.join(digests)}" for kind, digests in hashes.items()]
        self._headers = (
            (b"Content-Type", b"text/html; charset=utf-8"),
            (b"Content-Security-Policy", "; ".join([*_POLICY, *sources]).encode()),
        )

    def getChild(self, path: bytes, request: Request) -> Resource:  # noqa: N802
        """Be what stands at the root."""
        return self if not path and not request.postpath else super().getChild(path, request)

    def answer(self, request: Request) -> int:
        """Answer with the document."""
        return respond(request, 200, self._body, self._headers)
