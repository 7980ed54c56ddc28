"""A Celery application: its worker has used a connection before it forks."""

from __future__ import annotations

import os

from celery import Celery, Task
from celery.signals import celeryd_after_setup

from sinapse.publisher import default
from sinapse.publisher.celery import init_app

app = Celery("site", broker=os.environ["BROKER"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
    sinapse={"REDIS_URL": os.environ["PUBLISH_TO"], "RETAIN": 60, "MAX_CONNECTIONS": 3},
)
init_app(app)


@celeryd_after_setup.connect  # type: ignore[untyped-decorator]  # Celery has no hints.
def _before_the_fork(**_: object) -> None:
    default().publish("parent", str(os.getpid()))


@app.task(bind=True, max_retries=1)  # type: ignore[untyped-decorator]  # As above.
def say(self: Task, text: str) -> None:
    """Publish who we are, and something only once."""
    default().publish("tasks", {"pid": os.getpid(), "text": text})
    default().publish("once", text, message_id=f"{self.request.id}:{text}")
    if self.request.retries == 0 and text == "again":
        raise self.retry(countdown=0)
