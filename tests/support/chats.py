"""An application with chats: each question starts a run, whose pieces a model streams over HTTP.

The test is the model: what it says, and when, is the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fastapi
import httpx
import uvicorn
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

from sinapse.publisher import fastapi as of_fastapi
from tests.support import EVENT_TIMEOUT, eventually, free_port
from tests.support.building import run
from tests.support.npm import CLIENT, build_client

SUBJECT = "ada"

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>A chat</title>
<div id="page"></div>
<script id="begin" type="application/json">%s</script>
<script src="/chat.js"></script>
"""


class Model:
    """What is asked for one answer."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._said: asyncio.Queue[str | None] = asyncio.Queue()

    def says(self, *pieces: object) -> None:
        """Let it say something."""
        for piece in pieces:
            self._loop.call_soon_threadsafe(self._said.put_nowait, json.dumps(piece))

    def ends(self) -> None:
        """Let it come to its end."""
        self._loop.call_soon_threadsafe(self._said.put_nowait, None)

    async def lines(self) -> AsyncIterator[str]:
        """Yield what it says: JSON, each in a line."""
        while (line := await self._said.get()) is not None:
            yield f"{line}\n"


class Chats:
    """The application."""

    def __init__(self, redis_url: str, sinapse_url: str, script: Path) -> None:
        self._sinapse = of_fastapi.Sinapse(redis_url=redis_url, url=sinapse_url)
        self._sinapse_url = sinapse_url
        self._script = script
        self._loop: asyncio.AbstractEventLoop
        self._tasks: set[asyncio.Task[None]] = set()
        #: Those that were asked, the last one last.
        self.models: list[Model] = []
        #: The last run of each chat, and its messages, which are saved when the run has ended.
        self.runs: dict[str, str] = {}
        self.messages: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        #: Whether a page that asks is told of a run that has ended, too.
        self.tells_of_the_past = False
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.app = fastapi.FastAPI(lifespan=self._lifespan)
        for path, method, endpoint in (
            ("/", "GET", self._page),
            ("/chat.js", "GET", self._js),
            ("/api/chat", "POST", self._ask),
            ("/api/chat/{chat}/stream", "GET", self._resume),
            ("/api/chat/{chat}/stop", "POST", self._stop),
            ("/model", "GET", self._model),
        ):
            self.app.add_api_route(path, endpoint, methods=[method], response_model=None)

    def state(self, chat: str) -> str:
        """Return the state of the last run of a chat."""

        async def found() -> str:
            run = await self._sinapse.publisher.runs.get(self.runs[chat])
            assert run is not None
            return str(run.state)

        return asyncio.run_coroutine_threadsafe(found(), self._loop).result(EVENT_TIMEOUT)

    def leave(self) -> None:
        """Cancel what is still being answered: its models are asked here, and would wait."""

        async def cancel() -> None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cancel(), self._loop).result(EVENT_TIMEOUT)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: fastapi.FastAPI) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        async with self._sinapse.lifespan(app):
            yield

    async def _page(self, chat: str) -> HTMLResponse:
        token = await self._sinapse.publisher.tokens.obtain(SUBJECT)
        begin = {
            "id": chat,
            "messages": self.messages[chat],
            "connect": {"url": self._sinapse_url, "token": token},
        }
        return HTMLResponse(PAGE % json.dumps(begin).replace("<", "\\u003c"))

    async def _js(self) -> fastapi.Response:
        return fastapi.Response(self._script.read_bytes(), media_type="text/javascript")

    async def _ask(self, request: fastapi.Request) -> JSONResponse:
        asked = await request.json()
        chat = asked["id"]
        self.messages[chat] = asked["messages"]
        begun: asyncio.Future[str] = self._loop.create_future()
        task = asyncio.create_task(self._answer(chat, begun))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return JSONResponse({"run": await begun})

    async def _answer(self, chat: str, begun: asyncio.Future[str]) -> None:
        pieces: list[str] = []
        async with self._sinapse.publisher.run(SUBJECT, name="answer") as answer:
            self.runs[chat] = answer.id
            begun.set_result(answer.id)
            async with (
                httpx.AsyncClient(timeout=EVENT_TIMEOUT) as client,
                client.stream("GET", f"{self.url}/model") as model,
            ):
                async for line in model.aiter_lines():
                    pieces.append(json.loads(line))
                    await answer.send(pieces[-1])
        parts = [{"type": "text", "text": "".join(pieces)}]
        self.messages[chat].append({"id": self.runs[chat], "role": "assistant", "parts": parts})

    async def _resume(self, chat: str) -> fastapi.Response:
        run = self.runs.get(chat)
        found = run and await self._sinapse.publisher.runs.get(run)
        if found and (self.tells_of_the_past or found.state == "running"):
            return JSONResponse({"run": run})
        return fastapi.Response(status_code=204)

    async def _stop(self, chat: str, asked: dict[str, str]) -> fastapi.Response:
        if asked.get("run", self.runs[chat]) == self.runs[chat]:
            await self._sinapse.publisher.runs.stop(self.runs[chat])
        return fastapi.Response(status_code=204)

    async def _model(self) -> StreamingResponse:
        self.models.append(model := Model())
        return StreamingResponse(model.lines(), media_type="application/x-ndjson")


def bundle_page(folder: Path) -> Path:
    """Bundle the page with the real packages, and return the file."""
    build_client()
    file = folder / "chat.js"
    options = ("--bundle", "--jsx=automatic", "--define:process.env.NODE_ENV='development'")
    esbuild = CLIENT / "node_modules" / ".bin" / "esbuild"
    command = (esbuild, "test/chat.jsx", *options, f"--outfile={file}", "--log-level=warning")
    run(*command, cwd=CLIENT)
    return file


@contextmanager
def serving_chats(redis_url: str, sinapse_url: str, script: Path) -> Iterator[Chats]:
    """Serve an application for the length of a with block; `script` is what its page runs."""
    chats = Chats(redis_url, sinapse_url, script)
    server = uvicorn.Server(uvicorn.Config(chats.app, port=chats.port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started, "the application answers")
        yield chats
        chats.leave()
    finally:
        server.should_exit = True
        thread.join(EVENT_TIMEOUT)
