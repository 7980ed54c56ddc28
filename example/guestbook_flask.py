"""The guest book with Flask and SQLAlchemy: a session that has committed is what publishes."""

import os
import sys
from pathlib import Path
from typing import Any

from flask import Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue
from sqlalchemy import String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sinapse.errors import BrokerUnavailable
from sinapse.publisher.flask import Sinapse
from sinapse.publisher.sqlalchemy import publish

PAGE = Path(__file__).with_name("templates") / "guestbook.html"

CHANNEL = "guestbook"

#: Whoever comes is the same subject: the book is for everybody to read.
VISITOR = "guestbook-visitor"


class Base(DeclarativeBase):
    """The tables."""


class Entry(Base):
    """What somebody has written."""

    __tablename__ = "entries"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(200))

    def as_json(self) -> dict[str, Any]:
        """Return what the page shows."""
        return {"id": self.id, "text": self.text}


app = Flask(__name__, static_folder=None)
sinapse = Sinapse(app)
sinapse.subject_loader(lambda: VISITOR)
engine = create_engine(f"sqlite:///{os.environ.get('GUESTBOOK', 'guestbook.sqlite3')}")


@app.get("/")
def page() -> bytes:
    """Show the page, which asks for everything else."""
    return PAGE.read_bytes()


@app.get("/connection")
def connect() -> ResponseReturnValue:
    """Say where the stream is and where it begins, and let the visitor hear of new entries."""
    sinapse.publisher.channels.add(VISITOR, CHANNEL)
    return sinapse.token_view()


@app.errorhandler(BrokerUnavailable)
def without_redis(_: BrokerUnavailable) -> Response:
    """Have the page go without push for now: it asks again."""
    return Response(status=503, headers={"Retry-After": "5"})


@app.get("/entries")
def entries() -> Response:
    """List the entries."""
    with Session(engine) as session:
        return jsonify([entry.as_json() for entry in session.scalars(select(Entry))])


@app.post("/entries")
def write() -> Response:
    """Write an entry, which everybody sees at once."""
    text = str(request.get_json()["text"])[:200]
    with Session(engine) as session, session.begin():
        entry = Entry(text=text)
        session.add(entry)
        session.flush()
        publish(session, CHANNEL, entry.as_json(), event="entry")
    return Response(status=204)


def main() -> None:
    """Make the table, and serve."""
    Base.metadata.create_all(engine)
    app.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)


if __name__ == "__main__":
    main()
