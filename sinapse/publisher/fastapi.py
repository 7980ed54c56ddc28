"""Sinapse for FastAPI: the class for Starlette, and dependencies.

::

    sinapse = Sinapse()
    app = FastAPI(lifespan=sinapse.lifespan)

    @app.post("/rooms/{room}/messages")
    async def say(room: int, text: str, push: Push):
        await push.publish(f"room:{room}", {"text": text})

    @app.get("/")
    async def page(position: Position, user: CurrentUser, session: PushSession):
        ...
        return HTMLResponse(await sinapse.element(user, position, session) + ...)

    @app.get("/sinapse/token")
    async def token(position: Position, user: CurrentUser, session: PushSession):
        return await sinapse.token_response(user, position, session)

    app.add_route("/sinapse.js", sinapse.client_response)    # import { connect } from "/sinapse.js"

    @app.post("/logout")
    async def log_out(request: Request, session: PushSession):
        await session.log_out()    # and then
        request.session.clear()

In tests, ``app.dependency_overrides[publisher]`` replaces the dependency. It is also needed in a
mounted application, because its lifespan is not run: ``app.dependency_overrides[publisher] =
lambda: sinapse.publisher``.
"""

from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection

from sinapse.publisher.aio import Publisher, default
from sinapse.publisher.starlette import DeviceSession, Settings, Sinapse, position_of

__all__ = [
    "DeviceSession",
    "Position",
    "Publisher",
    "Push",
    "PushSession",
    "Settings",
    "Sinapse",
    "device_session",
    "position",
    "publisher",
]


async def publisher() -> Publisher:
    """Return the publisher of the application; see :class:`sinapse.publisher.aio.Publisher`."""
    return default()


#: What an endpoint asks for that publishes.
Push = Annotated[Publisher, Depends(publisher)]


async def position(push: Push) -> str:
    """Return the position of a page; see :meth:`sinapse.publisher.starlette.Sinapse.position`."""
    return await position_of(push)


#: What the endpoint of a page asks for, before any other parameter that reads what the page shows:
#: FastAPI solves them in their order.
Position = Annotated[str, Depends(position)]


async def device_session(request: HTTPConnection, push: Push) -> DeviceSession:
    """Return the session of the device that a request comes from; nothing is asked yet."""
    return DeviceSession(request, push)


#: What the endpoint of a page asks for, whose user has a session of ours on each device, and what
#: a log-out ends: see :class:`sinapse.publisher.starlette.DeviceSession`.
PushSession = Annotated[DeviceSession, Depends(device_session)]
