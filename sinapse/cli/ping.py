"""``sinapse ping``: how long a message takes from here to a listener."""

import queue
import statistics
import time

import click

from sinapse.cli.address import url_argument
from sinapse.cli.publishing import Unavailable, publishing
from sinapse.cli.trial import Trial
from sinapse.errors import StreamEnded
from sinapse.printable import printable
from sinapse.publisher import Publisher

#: Seconds between two messages.
MESSAGE_INTERVAL = 0.2


@click.command("ping")
@url_argument
@click.option("--count", default=10, show_default=True, type=click.IntRange(1), metavar="N")
@publishing
def command(publisher: Publisher, url: str, count: int) -> None:
    """Publish messages, receive them at URL, and say how long each took.

    As a subject of its own, with a channel of its own, which are gone afterwards.
    """
    times = []
    try:
        with Trial(publisher, url) as trial:
            for number in range(count):
                if number:
                    time.sleep(MESSAGE_INTERVAL)
                start = time.perf_counter()
                publisher.publish(trial.name, str(number), retain=0)
                trial.next()
                times.append(1000 * (time.perf_counter() - start))
                click.echo(f"{times[-1]:.2f} ms")
    except KeyboardInterrupt:
        pass
    except queue.Empty:
        raise Unavailable(f"{url}: published, but nothing arrives") from None
    except (StreamEnded, OSError, ValueError) as error:
        raise Unavailable(printable(str(error))) from None
    if times:
        low, middle, high = min(times), statistics.median(times), max(times)
        click.echo(f"{len(times)} of {count}: {low:.2f} / {middle:.2f} / {high:.2f} ms", err=True)
