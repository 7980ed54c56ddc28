"""What tests publish without capturing it: it is captured all the same, as Django captures mail.

Where Django's test environment is set up, as by ``manage.py test`` and by pytest-django, nothing
reaches the Redis of the settings, which is that of a developer, unless somebody asks for it: by
``SINAPSE = {"TEST_CAPTURE": False}``, or by a real daemon of :mod:`sinapse.testing`. With each test
the messages are forgotten; who may listen to what is not, for ``setUpTestData`` may have said that.
"""

import sys
import threading

from django.core import mail

from sinapse.publisher.defaults import Once
from sinapse.publisher.django import configuration
from sinapse.publisher.operations import standin


class _Captured:
    """What the tests of this process have published."""

    def __init__(self) -> None:
        # Only tests need it, and what it needs.
        from sinapse.testing.memory import Memory  # noqa: PLC0415

        self._lock = threading.Lock()
        self._memory = Memory(nodes=1)
        self._mails: object = None

    def memory(self) -> standin.StandIn:
        """Return the stand-in for Redis; messages are forgotten with each test of Django's."""
        with self._lock:
            # Each of them has a list of its own for the mails that it sends.
            mails = getattr(mail, "outbox", None)
            if mails is not self._mails:
                self._memory.forget_messages()
                self._mails = mails
            return self._memory

    def forget(self) -> None:
        """Forget the messages."""
        with self._lock:
            self._memory.forget_messages()


_captured = Once(_Captured)


def connect() -> None:
    """Stand in for Redis wherever tests run."""
    standin.otherwise(_stand_in)


def forget() -> None:
    """Forget the messages: before each test of pytest's, which need not be one of Django's."""
    if _captured.made is not None:
        _captured.made.forget()


def _stand_in() -> standin.StandIn | None:
    return _captured().memory() if _is_test() and configuration.captures_tests() else None


def _is_test() -> bool:
    # Whoever tests has loaded it. Nothing public says whether the environment is set up: there may
    # be an outbox of mails in production as well.
    utils = sys.modules.get("django.test.utils")
    return utils is not None and hasattr(utils._TestState, "saved_data")  # noqa: SLF001
