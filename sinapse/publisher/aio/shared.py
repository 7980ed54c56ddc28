"""The publisher that the mixins use."""

from sinapse.publisher.aio.client import Publisher
from sinapse.publisher.shared import Shared

_shared = Shared(Publisher)

default = _shared.default
default_of = _shared.default_of
use = _shared.use
configure = _shared.configure
withdraw = _shared.withdraw
