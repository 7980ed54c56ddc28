"""The guest book with FastAPI: everything on the event loop. The entries end with the process."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import Body, FastAPI, Request, Response
from fastapi.responses import HTMLResponse

from sinapse.errors import BrokerUnavailable
from sinapse.publisher.fastapi import Position, Push, Sinapse

PAGE = Path(__file__).with_name("templates") / "guestbook.html"

CHANNEL = "guestbook"

#: Whoever comes is the same subject: the book is for everybody to read.
VISITOR = "guestbook-visitor"

sinapse = Sinapse(token_lifetime=3600)
app = FastAPI(lifespan=sinapse.lifespan)
written: list[dict[str, Any]] = []


@app.get("/", response_class=HTMLResponse)
async def page() -> bytes:
    """Show the page, which asks for everything else."""
    return PAGE.read_bytes()


@app.get("/connection")
async def connect(position: Position, push: Push) -> Response:
    """Say where the stream is and where it begins, and let the visitor hear of new entries."""
    await push.channels.add(VISITOR, CHANNEL)
    return await sinapse.token_response(VISITOR, position)


@app.exception_handler(BrokerUnavailable)
async def without_redis(_request: Request, _error: Exception) -> Response:
    """Have the page go without push for now: it asks again."""
    return Response(status_code=503, headers={"Retry-After": "5"})


@app.get("/entries")
async def entries() -> list[dict[str, Any]]:
    """List the entries."""
    return written


@app.post("/entries", status_code=204)
async def write(text: Annotated[str, Body(embed=True, max_length=200)], push: Push) -> None:
    """Write an entry, which everybody sees at once."""
    entry = {"id": len(written) + 1, "text": text}
    written.append(entry)
    with suppress(BrokerUnavailable):  # It is written all the same.
        await push.publish(CHANNEL, entry, event="entry")


def main() -> None:
    """Serve."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    uvicorn.run(app, port=port, log_level="warning")


if __name__ == "__main__":
    main()
