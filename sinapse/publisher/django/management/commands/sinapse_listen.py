"""``manage.py sinapse_listen ada``: hear what a user's browser would hear."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from sinapse.errors import StreamEnded
from sinapse.listening import Stream, listen
from sinapse.printable import printable, printable_json
from sinapse.publisher.django import configuration
from sinapse.publisher.django.management.arguments import failing_in_one_line, found


class Command(BaseCommand):
    """Open a user's event stream."""

    help = "Shows what a user hears, until Ctrl-C: through the daemon, with the user's own token."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the subject, and how to show its messages."""
        parser.add_argument("subject", help="name of a user, or app.model:primary-key")
        parser.add_argument("--url", help="the daemon, if not the one of the settings")
        parser.add_argument("--json", action="store_true", help="one JSON object on each line")
        parser.add_argument("--count", type=int, metavar="N", help="end after N messages")

    @failing_in_one_line
    def handle(self, **options: Any) -> None:
        """Listen."""
        settings = configuration.read()
        url = options["url"] or settings.url
        if url.startswith("/"):
            raise CommandError(f"--url is needed: {url} is a path on a host that is not known here")
        token = found(options["subject"]).auth.obtain(settings.token_lifetime)
        try:
            with listen(url, token=token) as stream:
                self.stderr.write("Listening.")
                self._show(stream, options["count"], options["json"])
        except KeyboardInterrupt:
            pass
        except (StreamEnded, OSError, ValueError) as error:
            raise CommandError(printable(str(error))) from error

    def _show(self, stream: Stream, count: int | None, as_json: bool) -> None:
        for number, message in enumerate(stream, start=1):
            if as_json:
                self.stdout.write(printable_json(message._asdict()))
            else:
                self.stdout.write(printable(f"{message.event or 'message'}: {message.data}"))
            self.stdout.flush()
            if number == count:
                return
