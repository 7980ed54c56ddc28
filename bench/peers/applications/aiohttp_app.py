"""Event streams with aiohttp-sse. Usage: aiohttp_app.py PORT [CERTIFICATE]."""

import os
import ssl
import sys

import uvloop
from aiohttp import web
from aiohttp_sse import sse_response
from broadcast import Broadcast

KEEP_ALIVE = int(os.environ["KEEP_ALIVE"])
BROADCAST = web.AppKey("broadcast", Broadcast)


async def stream(request: web.Request) -> web.StreamResponse:
    """Open a stream for the owner of the token."""
    broadcast = request.app[BROADCAST]
    channels = await broadcast.channels(request.query.get("access_token", ""))
    if not channels:
        raise web.HTTPUnauthorized
    async with (
        broadcast.messages(channels) as queue,
        sse_response(request, ping_interval=KEEP_ALIVE) as response,
    ):
        while response.is_connected():
            await response.send(await queue.get())
    return response


async def application() -> web.Application:
    """Make the application, in the loop that it runs in."""
    app = web.Application()
    app[BROADCAST] = Broadcast()
    app.router.add_get("/", stream)
    return app


def main() -> None:
    """Serve for ever."""
    context = None
    if len(sys.argv) > 2:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[2])
    web.run_app(
        application(),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        backlog=4096,
        access_log=None,
        print=None,
        ssl_context=context,
        loop=uvloop.new_event_loop(),
    )


main()
