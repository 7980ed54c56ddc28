"""Sinapse for FastAPI: the class for Starlette, and a dependency.

::

    sinapse = Sinapse()
    app = FastAPI(lifespan=sinapse.lifespan)

    @app.post("/rooms/{room}/messages")
    async def say(room: int, text: str, push: Push):
        await push.publish(f"room:{room}", {"text": text})

    @app.get("/sinapse/token")
    async def token(user: CurrentUser):
        return await sinapse.token_response(user)

In tests, ``app.dependency_overrides[publisher]`` replaces the dependency. It is also needed in a
mounted application, because its lifespan is not run: ``app.dependency_overrides[publisher] =
lambda: sinapse.publisher``.
"""

from typing import Annotated

from fastapi import Depends

from sinapse.publisher.aio import Publisher, default
from sinapse.publisher.starlette import Settings, Sinapse

__all__ = ["Publisher", "Push", "Settings", "Sinapse", "publisher"]


async def publisher() -> Publisher:
    """Return the publisher of the application; see :class:`sinapse.publisher.aio.Publisher`."""
    return default()


#: What an endpoint asks for that publishes.
Push = Annotated[Publisher, Depends(publisher)]
