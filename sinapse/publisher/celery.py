"""Sinapse for Celery: a publisher for tasks, configured by ``app.conf.sinapse``.

::

    app = Celery("tasks", broker=...)
    app.conf.sinapse = {"REDIS_URL": "redis://localhost:6379/0", "RETAIN": 60}
    init_app(app)

    @app.task(bind=True)
    def render(self, film):
        ...
        default().publish(film, "done", message_id=f"{self.request.id}:done")

The settings are those of :mod:`sinapse.publisher.frameworks.options`. With the settings of a Django
or Flask application, or with ``REDIS_URL`` in the environment, you need none of this: tasks publish
like all other code.

Each process of a worker has a pool of connections of its own; a forked child does not use those of
its parent. If a task runs again, because its worker died or it is retried, a message with a
``message_id`` is still published only once: Redis remembers it for two hours, or as long as the
message is retained. If tasks may come back later than that, as with a ``visibility_timeout`` of two
hours or more, retain such messages for longer.
"""

from collections.abc import Mapping
from typing import Any

import celery
from celery.signals import worker_process_shutdown

from sinapse.publisher import defaults
from sinapse.publisher.client import Publisher
from sinapse.publisher.frameworks.options import read

_FORM = "sinapse[{!r}]".format


def init_app(app: celery.Celery) -> None:
    """Make the tasks of `app` publish with its configuration, which is read at the first use.

    That raises ``ValueError`` with one line if the configuration is wrong.
    """

    def make() -> Publisher:
        given: Any = app.conf.get("sinapse") or {}
        if not isinstance(given, Mapping):
            raise ValueError(f"sinapse must be a dictionary, not {type(given).__name__}")  # noqa: TRY004
        return read(given, _FORM).publisher()

    publisher = defaults.Once(make)
    defaults.configure(publisher)

    def close(**_: object) -> None:
        if publisher.made is not None:
            publisher.made.close()

    worker_process_shutdown.connect(close, weak=False, dispatch_uid=f"sinapse:{id(app)}")
