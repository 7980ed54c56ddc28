"""Event streams with sse-starlette."""

import os
from collections.abc import AsyncIterator

from broadcast import Broadcast
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

broadcast = Broadcast()
KEEP_ALIVE = int(os.environ["KEEP_ALIVE"])


async def stream(request: Request) -> Response:
    """Open a stream for the owner of the token."""
    channels = await broadcast.channels(request.query_params.get("access_token", ""))
    if not channels:
        return PlainTextResponse("unknown token", 401)
    queue = await broadcast.subscribe(channels)

    async def events() -> AsyncIterator[ServerSentEvent]:
        try:
            while True:
                yield ServerSentEvent(await queue.get())
        finally:
            broadcast.unsubscribe(channels, queue)

    return EventSourceResponse(events(), ping=KEEP_ALIVE)


app = Starlette(routes=[Route("/", stream)])
