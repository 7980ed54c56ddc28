"""A chat: what an application does to push messages with Sinapse, and nothing else.

The application says who may listen to what, and publishes; the daemon delivers. They share Redis
only. The interesting lines are those with ``sinapse`` or ``publish`` in them; the rest is any
small web application: one page, and views that take and return JSON.
"""

import os
import re
import secrets
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import click
from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    jsonify,
    render_template,
    request,
    session,
)
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

from sinapse.errors import BrokerUnavailable, PublishError
from sinapse.publisher import Publishable, Subject
from sinapse.publisher.flask import client_view

#: Characters.
LONGEST_NAME = 32
LONGEST_TEXT = 2_000

#: Bytes of a request: the longest text, were every character of it escaped twice, as JSON may.
LARGEST_REQUEST = 32 * 1024

#: They are for everybody, and for as long as the process lives: somebody must stop.
MOST_ROOMS = 50

#: Seconds. The page asks for a new token when its own has expired.
TOKEN_LIFETIME = 24 * 60 * 60

DEFAULT_SINAPSE_URL = "http://localhost:9000/"


class User(Subject):
    """Whoever signed in with that name. There are no passwords here: the name is the user."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def sinapse_id(self) -> str:
        """Tell the users of the chat from the subjects of other applications on this Redis."""
        return f"chat-{self.name}"


class Room(Publishable):
    """A channel with a title: ``room:lobby`` is the one with the title Lobby."""

    # Who loads the page, or joins, sees the last messages of the day: Redis has them.
    sinapse_replay = 50
    sinapse_retain = 24 * 60 * 60

    def __init__(self, title: str) -> None:
        self.title = title
        self.id = re.sub(r"\W+", "-", title.casefold()).strip("-")

    def tell(self, author: User, event: str, **content: str) -> None:
        """Publish what `author` did; `event` is the type that the page listens for."""
        message = {"room": self.id, "author": author.name, "at": _now(), **content}
        self.publish(message, event=event)


chat = Blueprint("chat", __name__)
chat.add_url_rule("/sinapse.js", view_func=client_view)


def create_app() -> Flask:
    """Make the application; the environment names the daemon (SINAPSE_URL) and Redis (REDIS_URL).

    Sessions are signed with a key of this process: like the rooms they end with it.

    Cross-site requests: the session's cookie is not sent with them. What changes something must
    also be PUT, DELETE or JSON, which a browser sends to another site only if that site agrees.
    """
    app = Flask(__name__)
    app.config.update(
        MAX_CONTENT_LENGTH=LARGEST_REQUEST,
        SECRET_KEY=secrets.token_bytes(32),
        SESSION_COOKIE_NAME="sinapse_chat",
        SESSION_COOKIE_SAMESITE="Strict",
        SINAPSE_URL=os.environ.get("SINAPSE_URL") or DEFAULT_SINAPSE_URL,
        ROOMS={room.id: room for room in map(Room, ("Lobby", "Coffee break", "Help"))},
    )
    app.register_blueprint(chat)
    app.after_request(_secure)
    return app


# The page


@chat.get("/")
def page() -> str:
    """Show the page, which asks for everything else."""
    return render_template(
        "chat.html",
        sinapse_url=current_app.config["SINAPSE_URL"],
        longest_name=LONGEST_NAME,
        longest_text=LONGEST_TEXT,
    )


@chat.get("/state")
def state() -> Response:
    """Return who the user is, the rooms, and the token for the event stream; null if nobody."""
    if "name" not in session:
        return jsonify(None)
    user = _user()
    joined = user.sinapse.channels
    return jsonify(
        name=user.name,
        at=_now(),
        # A token, not the cookie: the daemon may be another site, and knows no sessions.
        token=user.sinapse.auth.obtain(expires_in=TOKEN_LIFETIME),
        rooms=[
            {"id": room.id, "title": room.title, "joined": room.sinapse_channel in joined}
            for room in _rooms().values()
        ],
    )


# Signing in and out


@chat.post("/session")
def sign_in() -> Response:
    """Sign in with a name, and go into the first room."""
    user = User(_line("name"))
    _subscribe(user, next(iter(_rooms().values())))
    session["name"] = user.name
    return state()


@chat.delete("/session")
def sign_out() -> Response:
    """Sign out: the token and the list of channels go, and with them every open stream."""
    _user().sinapse.destroy()
    session.clear()
    return Response(status=204)


# Rooms


@chat.post("/rooms")
def create_room() -> Response:
    """Open a room, and go in."""
    user = _user()
    room = Room(_line("title"))
    if not room.id:
        abort(400, "The name of a room needs a letter or a digit.")
    if room.id in _rooms():
        abort(409, "There is a room of that name.")
    if len(_rooms()) >= MOST_ROOMS:
        abort(409, "There are too many rooms.")
    _rooms()[room.id] = room
    _subscribe(user, room)
    return state()


@chat.put("/rooms/<room_id>/subscription")
def join(room_id: str) -> Response:
    """Subscribe to a room: the user's open streams get its messages from now on."""
    _subscribe(_user(), _room(room_id))
    return state()


@chat.delete("/rooms/<room_id>/subscription")
def leave(room_id: str) -> Response:
    """Unsubscribe from a room: nothing that is published after this reaches the user."""
    user, room = _user(), _room(room_id)
    if user.sinapse.remove_channel(room):
        room.tell(user, "left")
    return state()


@chat.post("/rooms/<room_id>/messages")
def post(room_id: str) -> Response:
    """Publish a message in a room that the user is in."""
    user, room = _user(), _room(room_id)
    text = _text("text", LONGEST_TEXT)
    if not user.sinapse.has_channel(room):
        abort(403, "You are not in that room.")
    room.tell(user, "chat", text=text)
    return Response(status=204)


# What the views share


def _subscribe(user: User, room: Room) -> None:
    if user.sinapse.add_channel(room):
        room.tell(user, "joined")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _user() -> User:
    if "name" not in session:
        abort(401, "You are not signed in.")
    return User(session["name"])


def _rooms() -> dict[str, Room]:
    rooms: dict[str, Room] = current_app.config["ROOMS"]
    return rooms


def _room(room_id: str) -> Room:
    return _rooms().get(room_id) or abort(404, "There is no such room.")


def _text(field: str, longest: int) -> str:
    body: Any = request.get_json()  # Anything but JSON is refused: see create_app.
    value = body.get(field) if isinstance(body, dict) else None
    text = value.strip() if isinstance(value, str) else ""
    if not text:
        abort(400, f"The {field} is missing.")
    if len(text) > longest:
        abort(400, f"The {field} is longer than {longest} characters.")
    return text


def _line(field: str) -> str:
    """Read a name: one line, without characters that cannot be seen or change the direction."""
    text = _text(field, LONGEST_NAME)
    if not text.isprintable():
        abort(400, f"The {field} has characters that cannot be shown.")
    return text


@chat.app_errorhandler(HTTPException)
def _refused(error: HTTPException) -> tuple[Response, int]:
    return jsonify(error=error.description), error.code or 500


@chat.app_errorhandler(PublishError)
def _not_publishable(_: PublishError) -> tuple[Response, int]:
    return jsonify(error="That cannot be sent."), 400


@chat.app_errorhandler(BrokerUnavailable)
def _unavailable(_: BrokerUnavailable) -> tuple[Response, int]:
    return jsonify(error="Redis does not answer."), 503


def _secure(response: Response) -> Response:
    """Let the page load its own files, and connect to the daemon, and nothing else."""
    daemon = urlsplit(current_app.config["SINAPSE_URL"])._replace(path="", query="").geturl()
    socket = daemon.replace("http", "ws", 1)
    response.headers["Content-Security-Policy"] = (
        f"default-src 'self'; connect-src 'self' {daemon} {socket}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Content-Type-Options"] = "nosniff"
    if response.is_json:
        response.headers["Cache-Control"] = "no-store"
    return response


@click.command()
@click.option("--host", envvar="CHAT_HOST", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", envvar="CHAT_PORT", default=3000, help="Port to listen on.")
def main(host: str, port: int) -> None:
    """Serve the chat, in threads of one process, which holds the rooms."""
    server = make_server(host, port, create_app(), threaded=True)
    click.echo(f"The chat is on http://{host}:{server.port}/")
    server.serve_forever()


if __name__ == "__main__":
    main()
