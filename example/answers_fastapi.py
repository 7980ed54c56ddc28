"""Answers that are shown as they are generated, also after a reload and in every tab.

Each question begins a run: its messages are kept, and the daemon gives a page that comes later all
of them from the start. So the page keeps nothing, and the application has no list of answers.

The model is whatever speaks the chat completions of OpenAI: OPENAI_BASE_URL, with its version as in
``http://localhost:11434/v1``, MODEL, and OPENAI_API_KEY if it wants one. Without OPENAI_BASE_URL it
is a small one of this file, which knows nothing.
"""

import asyncio
import hashlib
import html
import json
import logging
import os
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urljoin, urlsplit

import click
import httpx
import uvicorn
from fastapi import Body, Cookie, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from sinapse.errors import BrokerUnavailable
from sinapse.publisher.fastapi import Push, Sinapse

HERE = Path(__file__).parent
PAGE = HERE / "templates" / "answers.html"

BASE_URL = os.environ.get("OPENAI_BASE_URL", "").rstrip("/")
API_KEY = os.environ.get("OPENAI_API_KEY", "")
MODEL = os.environ.get("MODEL", "")

#: Seconds for which a model may say nothing.
SILENCE = 60

#: Seconds between two pieces of the model that is here.
PACE = 0.08

COOKIE = "sinapse_answers"
DAY = 24 * 60 * 60

sinapse = Sinapse(token_lifetime=DAY)

#: The event loop itself does not keep tasks from being collected.
answering: set[asyncio.Task[None]] = set()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """End the answers that are not complete before the connections to Redis are closed."""
    async with sinapse.lifespan(app):
        yield
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)


app = FastAPI(lifespan=lifespan)
app.mount("/static", StaticFiles(directory=HERE / "static"))
app.add_route("/sinapse.js", sinapse.client_response)


def visitor_of(cookie: Annotated[str, Cookie(alias=COOKIE)]) -> str:
    """Return whose page that is: an id from which nobody learns the cookie."""
    return hashlib.sha256(cookie.encode()).hexdigest()[:32]


Visitor = Annotated[str, Depends(visitor_of)]


@app.get("/", response_class=HTMLResponse)
async def page(request: Request) -> HTMLResponse:
    """Show the page, which may load its own files, and connect to the daemon, and nothing else."""
    model = MODEL or "a program that knows nothing: no language model is configured"
    answer = HTMLResponse(PAGE.read_text().replace("{{ model }}", html.escape(model)))
    url = (await sinapse.connection(None))["url"]
    daemon = urlsplit(urljoin(str(request.base_url), url))._replace(path="", query="").geturl()
    answer.headers["Content-Security-Policy"] = (
        f"default-src 'self'; connect-src 'self' {daemon} {daemon.replace('http', 'ws', 1)}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    answer.headers["Referrer-Policy"] = "no-referrer"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    if COOKIE not in request.cookies:
        secret = secrets.token_urlsafe(32)
        answer.set_cookie(COOKIE, secret, max_age=30 * DAY, httponly=True, samesite="strict")
    return answer


@app.get("/connection")
async def connect(visitor: Visitor, push: Push) -> Response:
    """Say where the stream is: one that is new gets all runs of the visitor that are retained."""
    await admit(push, visitor)
    return await sinapse.token_response(visitor)


async def admit(push: Push, visitor: str) -> None:
    """Let the visitor have a stream before there is a run, for as long as the token is valid."""
    await push.channels.add(visitor, f"visitor:{visitor}", expires_in=DAY + 60)


@app.exception_handler(BrokerUnavailable)
async def without_redis(_request: Request, _error: Exception) -> Response:
    """Have the page ask again."""
    return Response(status_code=503, headers={"Retry-After": "5"})


@app.post("/questions", status_code=202)
async def ask(
    question: Annotated[str, Body(embed=True, min_length=1, max_length=1000)],
    visitor: Visitor,
    push: Push,
) -> None:
    """Begin an answer, which goes on after this request and does not need its page."""
    await admit(push, visitor)  # While Redis is away, the page is told so at once.
    task = asyncio.create_task(answer(push, visitor, question))
    answering.add(task)
    task.add_done_callback(has_answered)


def has_answered(task: asyncio.Task[None]) -> None:
    """Let go of a task; what went wrong is for the log, and the page knows of it already."""
    answering.discard(task)
    if not task.cancelled() and (error := task.exception()):
        logging.getLogger("answers").warning("An answer has failed: %r", error)


async def answer(push: Push, visitor: str, question: str) -> None:
    """Answer a question: the question is the first piece of the run."""
    failed = "This answer could not be completed. Ask again."
    async with push.run(visitor, name="answer", error_text=failed) as run:
        await run.send({"question": question})
        model = model_elsewhere if BASE_URL else model_of_this_file
        async with aclosing(model(question)) as pieces:  # A model that is left is not paid for.
            async for piece in pieces:
                await run.send(piece)


@app.post("/runs/{run}/stop", status_code=204)
async def stop(run: str, visitor: Visitor, push: Push) -> None:
    """Stop an answer of the visitor."""
    found = await push.runs.get(run)
    if found is None or found.subject != visitor:
        raise HTTPException(404, "There is no such answer.")
    await push.runs.stop(run)


async def model_elsewhere(question: str) -> AsyncGenerator[str, None]:
    """Yield what a model answers, as it comes."""
    asked = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": question}]}
    headers = {"Authorization": f"Bearer {API_KEY}"} if API_KEY else {}
    async with (
        httpx.AsyncClient(timeout=SILENCE, headers=headers) as client,
        client.stream("POST", f"{BASE_URL}/chat/completions", json=asked) as response,
    ):
        response.raise_for_status()
        async for line in response.aiter_lines():
            data = line.removeprefix("data:").strip()
            if data in (line, "[DONE]"):
                continue  # An empty line, a comment, or the end.
            for choice in json.loads(data)["choices"]:
                if piece := (choice.get("delta") or {}).get("content"):
                    yield piece


async def model_of_this_file(question: str) -> AsyncGenerator[str, None]:
    """Yield an answer that is made of nothing but the question."""
    words = question.split()
    lines = [
        f"You have asked: {' '.join(words)}",
        f"I know nothing of that. But I can count: these are {len(words)} words.",
        *(f"{place}. {word} has {len(word)} characters." for place, word in enumerate(words, 1)),
        f"The longest is {max(words, key=len, default='none')}.",
        f"Read backwards, you have asked: {' '.join(reversed(words))}",
        "If you reload the page now, or open it in a second tab, nothing of this is missing.",
    ]
    for piece in re.findall(r"\S+\s*", "\n".join(lines)):
        yield piece
        await asyncio.sleep(PACE)


@click.command()
@click.option("--port", default=8000, help="Port to listen on.")
def main(port: int) -> None:
    """Serve the page on http://localhost, at that port."""
    if BASE_URL and not MODEL:
        raise click.UsageError("OPENAI_BASE_URL is set, and MODEL does not say which model.")
    click.echo(f"Ask on http://localhost:{port}/")
    uvicorn.run(app, port=port, log_level="warning")


if __name__ == "__main__":
    main()
