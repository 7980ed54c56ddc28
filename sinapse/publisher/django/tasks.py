"""A task for Celery: what waits in the outboxes is sent, as by ``manage.py sinapse_relay --once``.

For applications that have Celery's beat and no place for one more process::

    CELERY_BEAT_SCHEDULE = {
        "outbox": {"task": "sinapse.publisher.django.tasks.relay", "schedule": 1.0},
    }
"""

from celery import shared_task

from sinapse.publisher import default
from sinapse.publisher.django.outbox import DjangoStore, databases
from sinapse.publisher.outbox.relay import Relay


@shared_task(ignore_result=True)  # type: ignore[untyped-decorator]  # Celery has no types.
def relay() -> int:
    """Send what is there, and return how many messages were sent."""
    stores = [DjangoStore(using) for using in databases()]
    sender = Relay(stores, default)
    for store in stores:
        sender.attempt(store)
    return sum(sender.sent.values())
