"""A task that says how far it is: what a progress bar listens to.

::

    pip install 'sinapse-push[celery]'
    celery --app countdown_celery worker
    sinapse channels add ada countdown:ada
    sinapse listen --subject ada
    python countdown_celery.py ada
"""

import os
import sys
import time

from celery import Celery, Task

from sinapse.protocol.redisurl import DEFAULT_URL
from sinapse.publisher import default
from sinapse.publisher.celery import init_app

app = Celery("countdown", broker=os.environ.get("BROKER_URL") or DEFAULT_URL)
app.conf.broker_connection_retry_on_startup = True
app.conf.sinapse = {"RETAIN": 60}
init_app(app)


# The name is said: Celery would make it of the module's, which is another one for the script.
@app.task(bind=True, name="countdown.count")  # type: ignore[untyped-decorator]  # No hints.
def count(self: Task, channel: str, steps: int = 5, pause: float = 1.0) -> None:
    """Take `steps`, with a `pause` of seconds before each, and tell `channel` of them.

    A worker that dies may leave a task to another one: each step is told once all the same.
    """
    for step in range(1, steps + 1):
        time.sleep(pause)
        default().publish(
            channel,
            {"done": step, "of": steps},
            event="progress",
            message_id=f"{self.request.id}:{step}",
        )


def main() -> None:
    """Let somebody listen to a task, and start it."""
    [subject] = sys.argv[1:] or ["ada"]
    channel = f"countdown:{subject}"
    default().channels.add(subject, channel)
    count.delay(channel)


if __name__ == "__main__":
    main()
