"""Notes with htmx and Flask: everybody who has logged in sees each note at once.

The page of htmx 2 is at /, that of htmx 4 at /4. Both libraries come by npm, into the folder that
this is started in::

    npm install htmx.org@2 htmx-ext-sse@2 htmx4@npm:htmx.org@4
    python notes_htmx.py 8000

The notes end with the process.
"""

import os
import secrets
import sys
from pathlib import Path
from typing import Any

from flask import Flask, Response, redirect, render_template, request, send_from_directory, session
from flask.typing import ResponseReturnValue

from sinapse.publisher.flask import Sinapse
from sinapse.publisher.html import html_event

CHANNEL = "notes"

app = Flask(__name__)
app.secret_key = secrets.token_bytes()
app.config.update(
    SESSION_COOKIE_SAMESITE="Lax",  # A form of another site writes nothing.
    SINAPSE_TOKEN_LIFETIME=float(os.environ.get("TOKEN_LIFETIME", "86400")),
)
sinapse = Sinapse(app)
notes: list[dict[str, Any]] = []


@sinapse.subject_loader
def user() -> str | None:
    """Return who has logged in, whose name is enough here."""
    return session.get("name")


@app.get("/")
@app.get("/4", defaults={"template": "notes_htmx4.html"})
@sinapse.with_position
def page(template: str = "notes_htmx.html") -> ResponseReturnValue:
    """Show the notes; or the form to log in, for which htmx loads the page anew."""
    if user() is None:
        return render_template("notes_login.html"), {"HX-Refresh": "true"}
    return render_template(template, notes=notes)


@app.post("/login")
def log_in() -> ResponseReturnValue:
    """Let a user hear of notes."""
    session["name"] = request.form["name"][:40]
    sinapse.publisher.channels.add(session["name"], CHANNEL)
    return redirect("/")


@app.post("/logout")
def log_out() -> ResponseReturnValue:
    """End the session of this device, and its streams."""
    sinapse.log_out()
    session.clear()
    return redirect("/")


@app.post("/notes")
def write() -> ResponseReturnValue:
    """Write a note, and then publish it."""
    if (name := user()) is None:
        return Response(status=401)
    note = {"id": len(notes) + 1, "name": name, "text": request.form["text"][:200]}
    notes.append(note)
    template = app.jinja_env.get_template("note.html")
    sinapse.publish(CHANNEL, *html_event(template, context={"note": note}))
    return Response(status=204)


app.add_url_rule("/token", view_func=sinapse.token_view)


@app.get("/js/<path:name>")
def script(name: str) -> Response:
    """Return a file of a package of npm."""
    return send_from_directory(Path("node_modules").absolute(), name)


@app.after_request
def forbid(answer: Response) -> Response:
    """Forbid scripts in the page, and all from elsewhere but the stream."""
    stream = os.environ.get("SINAPSE_URL", "http://localhost:9000/")
    answer.headers["Content-Security-Policy"] = f"default-src 'self'; connect-src 'self' {stream}"
    return answer


if __name__ == "__main__":
    app.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
