"""A page on each framework: it shows a state, and opens a stream with the position of its view.

The test is the application: it changes the state whenever it likes, in the midst of a view too.
"""

from __future__ import annotations

import html
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import fastapi
import flask
import uvicorn
from fastapi.responses import HTMLResponse
from werkzeug.serving import make_server

from sinapse.publisher import Publisher, defaults
from sinapse.publisher import fastapi as of_fastapi
from sinapse.publisher import flask as of_flask
from tests.support import EVENT_TIMEOUT, eventually, free_port

CHANNEL = "news"

#: What `show` does is told twice: the list is what a reader sees, and `received` what the stream
#: brought.
SCRIPT = """
const { url, token, position } = JSON.parse(document.getElementById("sinapse-connection").textContent);
const list = document.querySelector("ul");
const received = [];
let resets = 0;
function show(text) {
  if ([...list.children].some((item) => item.textContent === text)) return;
  list.append(Object.assign(document.createElement("li"), { textContent: text }));
}
async function load() {
  for (const text of await (await fetch("entries")).json()) show(text);
}
const stream = new EventSource(`${url}?access_token=${token}&lastEventId=${position}`);
stream.addEventListener("message", ({ data }) => {
  received.push(data);
  show(data);
});
stream.addEventListener("reset", () => {
  resets++;
  load();
});
"""  # noqa: E501  # As it stands in the how-tos.


def nothing() -> None:
    """Do nothing."""


@dataclass
class Site:
    """An application; `subjects` are those for whom it renders pages."""

    publisher: Publisher
    subjects: tuple[str, ...] = ("ada", "auth.user:1")
    entries: list[str] = field(default_factory=list)
    #: What happens in a view before and after its query.
    before: Callable[[], None] = nothing
    after: Callable[[], None] = nothing
    #: Whether pages come out of a cache once there is one.
    is_cached: bool = False
    kept: str | None = None
    pages: int = 0
    fetches: int = 0

    def __post_init__(self) -> None:
        for subject in self.subjects:
            self.publisher.channels.add(subject, CHANNEL)

    def write(self, text: str, retain: float | None = None) -> None:
        """Change the state, and publish the change."""
        self.entries.append(text)
        self.publisher.publish(CHANNEL, text, retain=retain)

    def query(self) -> list[str]:
        """Return the state, as a view reads it."""
        self.before()
        found = list(self.entries)
        self.after()
        return found

    def page(self, entries: list[str], element: str) -> str:
        """Return the page."""
        self.pages += 1
        items = "".join(f"<li>{html.escape(text)}</li>" for text in entries)
        page = f"<!doctype html>{element}<ul>{items}</ul><script>{SCRIPT}</script>"
        if not self.is_cached:
            return page
        self.kept = self.kept or page
        return self.kept

    def fetched(self) -> str:
        """Return the state for a page that was told that messages are missing."""
        self.fetches += 1
        return json.dumps(self.entries)


@contextmanager
def _django(site: Site, redis_url: str, sinapse_url: str) -> Iterator[str]:
    from tests.support import django_site

    django_site.set_up()
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import override_settings

    from sinapse.publisher.django import configuration
    from tests.support.django_site import pages

    pages.current.append(site)
    sinapse = {"REDIS_URL": redis_url, "URL": sinapse_url}
    with override_settings(SINAPSE=sinapse, ROOT_URLCONF=pages.__name__):
        try:
            with serving(WSGIHandler()) as url:
                yield url
        finally:
            configuration.forget()
            pages.current.clear()


@contextmanager
def _flask(site: Site, redis_url: str, sinapse_url: str) -> Iterator[str]:
    app = flask.Flask(__name__)
    app.config.update({"SINAPSE_REDIS_URL": redis_url, "SINAPSE_URL": sinapse_url})
    sinapse = of_flask.Sinapse(app)

    @app.get("/")
    @sinapse.with_position
    def page() -> str:
        entries = site.query()
        return site.page(entries, sinapse.element("ada"))

    @app.get("/entries")
    def fetched() -> flask.Response:
        return flask.Response(site.fetched(), content_type="application/json")

    try:
        with serving(app) as url:
            yield url
    finally:
        with app.app_context():
            sinapse.publisher.close()
        defaults.configure(None)


@contextmanager
def _fastapi(site: Site, redis_url: str, sinapse_url: str) -> Iterator[str]:
    sinapse = of_fastapi.Sinapse(redis_url=redis_url, url=sinapse_url)
    app = fastapi.FastAPI(lifespan=sinapse.lifespan)

    async def page(position: of_fastapi.Position) -> str:
        entries = site.query()
        return site.page(entries, await sinapse.element("ada", position))

    async def fetched() -> fastapi.Response:
        return fastapi.Response(site.fetched(), media_type="application/json")

    app.add_api_route("/", page, response_class=HTMLResponse)
    app.add_api_route("/entries", fetched)
    server = uvicorn.Server(uvicorn.Config(app, port=free_port(), log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started, "the application answers")
        yield f"http://127.0.0.1:{server.config.port}/"
    finally:
        server.should_exit = True
        thread.join(EVENT_TIMEOUT)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve a WSGI application for the length of a with block, and yield its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join(EVENT_TIMEOUT)
        server.server_close()


#: Each serves the pages of a site for the length of a with block, and yields their URL.
FRAMEWORKS = {"django": _django, "flask": _flask, "fastapi": _fastapi}
