"""Notes with Datastar and FastAPI: everybody who has logged in sees the list as it is.

Put ``datastar.js``, of Datastar 1.0, into the folder that this is started in::

    python notes_datastar.py 8000

The notes end with the process.
"""

import asyncio
import os
import secrets
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader
from starlette.middleware.sessions import SessionMiddleware

from sinapse.publisher.fastapi import Position, Push, PushSession, Sinapse
from sinapse.publisher.html import patch_elements

HERE = Path(__file__).parent

CHANNEL = "notes"

#: Seconds.
LIFETIME = float(os.environ.get("TOKEN_LIFETIME", "86400"))
MONTH = 30 * 24 * 60 * 60

sinapse = Sinapse(token_lifetime=LIFETIME)
app = FastAPI(lifespan=sinapse.lifespan)
app.add_middleware(SessionMiddleware, secret_key=secrets.token_hex(), same_site="lax")
app.mount("/static", StaticFiles(directory=HERE / "static"))
templates = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True)

notes: list[dict[str, Any]] = []
#: Of two lists the later one is published later.
order = asyncio.Lock()


async def sent(request: Request) -> dict[str, str]:
    """Return what a form has sent."""
    return dict(parse_qsl((await request.body()).decode()))


async def user(request: Request) -> str:
    """Return who has logged in, whose name is enough here."""
    if (name := request.session.get("name")) is None:
        raise HTTPException(401)
    return str(name)


Sent = Annotated[dict[str, str], Depends(sent)]
User = Annotated[str, Depends(user)]


@app.get("/", response_class=HTMLResponse)
async def page(position: Position, request: Request, session: PushSession) -> str:
    """Show the notes, or the form to log in."""
    if (name := request.session.get("name")) is None:
        return templates.get_template("notes_login.html").render()
    stream = await sinapse.stream_url(name, position, session)
    template = templates.get_template("notes_datastar.html")
    return template.render(stream=stream, notes=notes, renewal=int(LIFETIME / 4))


@app.post("/login")
async def log_in(request: Request, form: Sent, push: Push) -> RedirectResponse:
    """Let a user hear of notes."""
    request.session["name"] = form["name"][:40]
    await push.channels.add(request.session["name"], CHANNEL)
    return RedirectResponse("/", 303)


@app.post("/logout")
async def log_out(request: Request, session: PushSession) -> RedirectResponse:
    """End the session of this device, and its streams."""
    await session.log_out()
    request.session.clear()
    return RedirectResponse("/", 303)


@app.post("/notes", status_code=204)
async def write(name: User, form: Sent, push: Push) -> None:
    """Write a note, and then publish the list."""
    async with order:
        notes.append({"id": len(notes) + 1, "name": name, "text": form["text"][:200]})
        event = patch_elements(templates.get_template("notes_list.html"), {"notes": notes})
        await push.publish(CHANNEL, *event, retain=MONTH, retain_messages=1, replay=1)


@app.post("/renew", status_code=204)
async def renew(name: User, session: PushSession) -> None:
    """Let the token of the page live on."""
    await sinapse.connection(name, None, session)


@app.get("/datastar.js")
async def datastar() -> FileResponse:
    """Return the library."""
    return FileResponse("datastar.js", media_type="text/javascript")


def main() -> None:
    """Serve."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    uvicorn.run(app, port=port, log_level="warning")


if __name__ == "__main__":
    main()
