"""Publish messages, and say who may receive them: the library for applications.

Synchronous, thread-safe and fork-safe; it needs Redis only, never the daemon, and never imports
Twisted::

    from sinapse.publisher import Group, Publishable, Publisher, Subject

    class User(Subject): ...

    class Room(Publishable): ...

    class Team(Group): ...

    token = user.sinapse.auth.generate()
    user.sinapse.add_channel(room)
    user.sinapse.add_group(team)
    team.sinapse_channels.add(room)             # for all members
    room.publish({"text": "hello"}, event="message")

    user.sinapse.publish("for you alone")

    Publisher("redis://localhost:6379/0").publish("room:1", "hello")

``docs/protocol.md`` describes the protocol in Redis.

``client``       the publisher: by names and ids
``tokens``       tokens of subjects
``sessions``     tokens of devices, which end one by one
``channels``     what a subject may listen to
``groups``       what the members of a group may listen to
``runs``         what is shown as it is produced
``outbox``       messages that wait in the database of their transaction until Redis has them
``pipeline``     several operations in one round trip
``mixins``       the library for the classes of an application
``defaults``     the publisher that they use
``base``         what every kind of publisher has in common
``awaiting``     the same, to be awaited: on asyncio or Twisted
``signatures``   what a method shows that is made of another one
``connections``  operations, carried out on connections to one Redis or several
``pool``         the connections, shared by threads
``subscriber``   a connection that hears what is published, for who looks whether it does
``batching``     messages of several threads, sent together
``sentinel``     connections that follow the master
``process``      what each process has of its own
``apiurl``       where the HTTP API is
``resharding``   moving channels between several Redis
``http``         the HTTP API in the place of Redis
``html``         messages for pages that get HTML: by htmx, Turbo or Datastar
``frameworks``   what the integrations have in common
``flask``        Flask: the extension
``starlette``    Starlette and FastAPI: the lifespan, and what pages need
``fastapi``      FastAPI: the dependency
``celery``       Celery: its settings, and processes that end
``sqlalchemy``   SQLAlchemy: publishing after the commit of a session
``django``       Django: the app
``aio``          the library on asyncio, under the same names
``tx``           the library on Twisted, under the same names
``operations``   what Redis is asked, and what its answers mean
"""

from sinapse.publisher.client import Publisher
from sinapse.publisher.defaults import default, use
from sinapse.publisher.mixins import Group, Publishable, Subject
from sinapse.publisher.operations.history import History, Retained
from sinapse.publisher.operations.identity import inbox
from sinapse.publisher.operations.messages import Outgoing
from sinapse.publisher.operations.presence import Audience
from sinapse.publisher.operations.published import Published
from sinapse.publisher.operations.sessions import NewSession, Session

__all__ = [
    "Audience",
    "Group",
    "History",
    "NewSession",
    "Outgoing",
    "Publishable",
    "Published",
    "Publisher",
    "Retained",
    "Session",
    "Subject",
    "default",
    "inbox",
    "use",
]
