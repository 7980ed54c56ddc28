"""The publisher that the mixins use."""

from collections.abc import Callable

from sinapse.publisher.aio.client import Publisher
from sinapse.publisher.defaults import Shared

_shared = Shared(Publisher)

default: Callable[[], Publisher] = _shared.default
default_of: Callable[[Callable[[], Publisher]], Publisher] = _shared.default_of
use: Callable[[Publisher | None], Publisher | None] = _shared.use
configure: Callable[[Callable[[], Publisher] | None], None] = _shared.configure
withdraw: Callable[[Callable[[], Publisher]], None] = _shared.withdraw
