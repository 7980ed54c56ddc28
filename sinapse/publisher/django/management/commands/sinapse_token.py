"""``manage.py sinapse_token ada``: the token of a user, to try things with."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sinapse.publisher.django.management.arguments import failing_in_one_line, found


class Command(BaseCommand):
    """Show, replace or revoke a token."""

    help = "Shows the current push token of a user, or makes one if there is none."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the subject, and what to do."""
        parser.add_argument("subject", help="name of a user, or app.model:primary-key")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--new", action="store_true", help="replace it: its streams end")
        what.add_argument("--revoke", action="store_true", help="revoke it: its streams end")
        parser.add_argument("--expires-in", type=float, metavar="SECONDS")

    @failing_in_one_line
    def handle(self, **options: Any) -> None:
        """Write the token, and nothing else, to standard output."""
        auth = found(options["subject"]).auth
        if options["revoke"]:
            self.stderr.write("Revoked." if auth.clear() else "There was none.")
        elif options["new"]:
            self.stdout.write(auth.generate(options["expires_in"]))
        else:
            self.stdout.write(auth.obtain(options["expires_in"]))
