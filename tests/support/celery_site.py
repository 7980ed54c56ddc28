"""The application of the example, with another task: its worker has used a connection to fork."""

from __future__ import annotations

import os

from celery import Task
from celery.signals import celeryd_after_setup

from example.countdown_celery import app
from sinapse.publisher import default

app.conf.worker_prefetch_multiplier = 1


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
