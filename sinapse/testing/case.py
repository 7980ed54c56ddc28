"""For unittest: a mixin for the classes of tests."""

import unittest

from sinapse.publisher.operations.identity import ChannelLike
from sinapse.testing.capture import assert_publishes, capture, refute_publishes
from sinapse.testing.messages import ANY, Anything, Messages, Publication


class SinapseTestMixin(unittest.TestCase):
    """Captures what each test publishes: ``class PostTest(SinapseTestMixin, TestCase)``.

    A ``setUp`` of your own calls that of its parents first, as ever.
    """

    #: What the test has published.
    sinapse_messages: Messages

    def setUp(self) -> None:
        """Begin to capture; the end of the test ends it, whatever happens."""
        super().setUp()
        self.sinapse_messages = self.enterContext(capture())

    def assertPublished(  # noqa: N802  # As unittest has it.
        self,
        count: int | None = None,
        *,
        channel: ChannelLike | Anything = ANY,
        event: str | Anything | None = ANY,
        message: object = ANY,
    ) -> list[Publication]:
        """Return those messages of the test that match, of which there must be so many."""
        return self.sinapse_messages.assert_published(
            count, channel=channel, event=event, message=message
        )

    def assertPublishes(  # noqa: N802  # As unittest has it.
        self,
        count: int | None = None,
        *,
        channel: ChannelLike | Anything = ANY,
        event: str | Anything | None = ANY,
        message: object = ANY,
    ) -> assert_publishes:
        """Expect so many messages in a ``with`` block."""
        return assert_publishes(count, channel=channel, event=event, message=message)

    def refutePublishes(  # noqa: N802  # As unittest has it.
        self,
        *,
        channel: ChannelLike | Anything = ANY,
        event: str | Anything | None = ANY,
        message: object = ANY,
    ) -> refute_publishes:
        """Expect no message in a ``with`` block, or no message that matches."""
        return refute_publishes(channel=channel, event=event, message=message)
