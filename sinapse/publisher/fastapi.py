"""Sinapse for FastAPI: the class for Starlette, and dependencies.

::

    sinapse = Sinapse()
    app = FastAPI(lifespan=sinapse.lifespan)

    @app.post("/rooms/{room}/messages")
    async def say(room: int, text: str, push: Push):
        await push.publish(f"room:{room}", {"text": text})

    @app.get("/")
    async def page(position: Position, user: CurrentUser, session: Session):
        ...
        return HTMLResponse(await sinapse.element(user, position) + ...)

    @app.get("/sinapse/token")
    async def token(position: Position, user: CurrentUser):
        return await sinapse.token_response(user, position)

In tests, ``app.dependency_overrides[publisher]`` replaces the dependency. It is also needed in a
mounted application, because its lifespan is not run: ``app.dependency_overrides[publisher] =
lambda: sinapse.publisher``.
"""

from typing import Annotated

from fastapi import Depends

from sinapse.publisher.aio import Publisher, default
from sinapse.publisher.starlette import Settings, Sinapse, position_of

__all__ = ["Position", "Publisher", "Push", "Settings", "Sinapse", "position", "publisher"]


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
