"""The model of the outbox."""

from typing import Any, ClassVar, TypeAlias

from django.db import models

from sinapse.protocol.keys import MAX_NAME_BYTES
from sinapse.publisher.outbox.rows import MAX_MESSAGE_ID, MAX_REASON, MAX_REPLAY, MAX_STREAM

Column: TypeAlias = "models.Field[Any, Any]"


class OutboxMessage(models.Model):
    """A message that waits in the database of its transaction until Redis has it.

    With ``SINAPSE = {"OUTBOX": True}``, each that is published in a transaction. It is removed when
    it has been sent.
    """

    id: Column = models.BigAutoField(primary_key=True)
    message_id: Column = models.CharField(max_length=MAX_MESSAGE_ID)
    channel: Column = models.CharField(max_length=MAX_NAME_BYTES)
    message: Column = models.TextField(blank=True)
    event: Column = models.CharField(max_length=MAX_NAME_BYTES, blank=True, default="")
    retain: Column = models.BigIntegerField(help_text="Milliseconds for which Redis retains it.")
    retain_messages: Column = models.IntegerField(
        help_text="How many messages its channel keeps then."
    )
    replay: Column = models.CharField(max_length=MAX_REPLAY, blank=True, default="")
    but: Column = models.CharField(max_length=MAX_STREAM, blank=True, default="")
    created: Column = models.DateTimeField(auto_now_add=True)
    refused: Column = models.CharField(
        max_length=MAX_REASON,
        blank=True,
        default="",
        help_text="Why it can never be sent.",
    )

    class Meta:
        """It has an index for the messages of a channel, in their order."""

        verbose_name = "message that waits"
        verbose_name_plural = "messages that wait"
        ordering: tuple[str, ...] = ("id",)
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=("channel", "id"), name="sinapse_outbox_channel")
        ]

    def __str__(self) -> str:
        return f"{self.id} to {self.channel}"
