"""``manage.py sinapse_publish news hello``: a message from a shell."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sinapse.publisher import default
from sinapse.publisher.django.management.arguments import failing_in_one_line
from sinapse.publisher.operations.retention import read_replay


class Command(BaseCommand):
    """Publish a message."""

    help = "Publishes a message, and says how many daemons had a listener."

    def add_arguments(self, parser: CommandParser) -> None:
        """Say what, and where."""
        parser.add_argument("channel", help="its name; an instance's is app.model:primary-key")
        parser.add_argument("message", help="text; - reads it from standard input")
        parser.add_argument("--event", help="event type")
        parser.add_argument("--retain", type=float, metavar="SECONDS")
        parser.add_argument("--message-id", help="publish a message with this id only once")
        parser.add_argument(
            "--replay",
            type=read_replay,
            metavar="N|all",
            help="how many of the last messages a new stream gets",
        )
        parser.add_argument("--retain-messages", type=int, metavar="N")
        parser.add_argument("--but", metavar="STREAM", help="a stream that does not get it")

    @failing_in_one_line
    def handle(self, **options: Any) -> None:
        """Publish."""
        message = options["message"]
        nodes = default().publish(
            options["channel"],
            sys.stdin.read() if message == "-" else message,
            options["event"],
            options["retain"],
            options["message_id"],
            replay=options["replay"],
            retain_messages=options["retain_messages"],
            but=options["but"],
        )
        heard = "There is no listener now." if not nodes else f"{nodes} daemon(s) heard it."
        self.stderr.write(heard)
