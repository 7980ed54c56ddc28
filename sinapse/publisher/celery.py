"""Sinapse for Celery: a publisher for the tasks, made of ``app.conf.sinapse``.

::

    app = Celery("tasks", broker=...)
    app.conf.sinapse = {"REDIS_URL": "redis://localhost:6379/0", "RETAIN": 60}
    init_app(app)

    @app.task(bind=True)
    def render(self, film):
        ...
        default().publish(film, "done", message_id=f"{self.request.id}:done")

The settings are those of :mod:`sinapse.publisher.options`. Where a Django or Flask application has
some, and for ``REDIS_URL`` of the environment, none of this is needed: tasks publish as everything
else does.

A worker of several processes has one pool of connections in each: what its parent has opened
before they are forked, the children leave alone. A task that is run again, because its worker died
or it is retried, publishes what has a ``message_id`` only once: that is remembered for two hours,
or for as long as the message is retained. Where tasks come back later than that, as with a
``visibility_timeout`` of two hours or more, retain such messages for longer.
"""

from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.signals import worker_process_shutdown

from sinapse.publisher import shared
from sinapse.publisher.client import Publisher
from sinapse.publisher.options import read

_FORM = "sinapse[{!r}]".format


def init_app(app: Celery) -> None:
    """Have the tasks of `app` publish as its configuration says, which is read when it is needed.

    Then, ``ValueError`` says in one line what is wrong with it.
    """

    def make() -> Publisher:
        given: Any = app.conf.get("sinapse") or {}
        if not isinstance(given, Mapping):
            raise ValueError(f"sinapse must be a dictionary, not {type(given).__name__}")  # noqa: TRY004
        return read(given, _FORM).publisher()

    publisher = shared.Once(make)
    shared.configure(publisher)

    def close(**_: object) -> None:
        if publisher.made is not None:
            publisher.made.close()

    worker_process_shutdown.connect(close, weak=False, dispatch_uid=f"sinapse:{id(app)}")
