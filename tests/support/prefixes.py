"""What names in Redis can begin with."""

from __future__ import annotations

from hypothesis import strategies as st

from sinapse.environment import is_off
from sinapse.protocol.keys import RESERVED
from sinapse.protocol.names import MAX_PREFIX_LENGTH

#: The characters of a prefix.
ALPHABET = "".join(sorted(set(map(chr, range(0x21, 0x7F))) - set("{}*?[]\\\"'")))

#: Any prefix.
PREFIXES = st.text(ALPHABET, min_size=1, max_size=MAX_PREFIX_LENGTH).filter(
    lambda prefix: RESERVED not in prefix and not is_off(prefix)
)
