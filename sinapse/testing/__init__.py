"""For the tests of applications: capture what they publish, or run a real daemon.

::

    from sinapse.testing import assert_publishes, capture

    def test_a_message_is_told_to_the_room():
        with capture() as messages:
            post(room, "hello")
        assert [each.channel for each in messages] == ["room:1"]

    def test_the_same_in_one_line():
        with assert_publishes(1, channel=room, event="message", message={"text": "hello"}):
            post(room, "hello")

While messages are captured no Redis is needed: tokens, sessions, groups and lists of channels are
kept in memory, and invalid values raise as always. For pytest there are the fixtures
``sinapse_messages`` and ``sinapse_server``, for unittest there is :class:`SinapseTestMixin`.

``capture``    capturing what is published
``messages``   what was captured, and what is expected of it
``memory``     what a Redis would have done
``runs``       what it would have done with runs
``sessions``   what it would have done with sessions
``groups``     what it would have done with groups
``lifetimes``  how long it would have kept something
``case``       the mixin for unittest
``server``     a real daemon
"""

from sinapse.testing.capture import assert_publishes, capture, captured, refute_publishes
from sinapse.testing.case import SinapseTestMixin
from sinapse.testing.messages import Messages, Publication

__all__ = [
    "Messages",
    "Publication",
    "SinapseTestMixin",
    "assert_publishes",
    "capture",
    "captured",
    "refute_publishes",
]
