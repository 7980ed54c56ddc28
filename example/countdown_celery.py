"""A task that publishes its progress, for a progress bar in a page.

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

from sinapse.publisher import default
from sinapse.publisher.celery import init_app

#: The daemon and the library use it by default too.
DEFAULT_BROKER = "redis://localhost:6379/0"

app = Celery("countdown", broker=os.environ.get("BROKER_URL") or DEFAULT_BROKER)
app.conf.broker_connection_retry_on_startup = True
app.conf.sinapse = {"RETAIN": 60}
init_app(app)


# With a name: Celery would make one of the module's name, which differs when it is the script.
@app.task(bind=True, name="countdown.count")  # type: ignore[untyped-decorator]  # No hints.
def count(self: Task, channel: str, steps: int = 5, pause: float = 1.0) -> None:
    """Take `steps`, with a `pause` of seconds before each, and publish each to `channel`.

    If a worker dies, a different one repeats its task: each step is published once all the same.
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
