"""The Lua scripts: what has to happen as one step, in one round trip.

Each of them reads first, then writes what Redis could refuse, and publishes last: what fails for
want of memory, or on a replica, has changed nothing, and nothing is announced that was not written.
"""

from dataclasses import dataclass, field
from hashlib import sha1


@dataclass(frozen=True)
class Script:
    """A script, and the SHA-1 by which Redis knows it once it has run."""

    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        sha = sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", sha)


#: KEYS: the set of channels. ARGV: channel, control channel. Returns 1 if the channel is new.
ADD_CHANNEL = Script("""\
local added = redis.call('SADD', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[1])
return added
""")

#: KEYS: the set of channels. ARGV: channel, control channel. Returns 1 if the channel was there.
REMOVE_CHANNEL = Script("""\
local removed = redis.call('SREM', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[1])
return removed
""")

#: KEYS: the set of channels. ARGV: control channel. Returns how many channels there were.
CLEAR_CHANNELS = Script("""\
local channels = redis.call('SMEMBERS', KEYS[1])
redis.call('DEL', KEYS[1])
for _, channel in ipairs(channels) do
  redis.call('PUBLISH', ARGV[1], channel)
end
return #channels
""")

#: KEYS: the subject's current token, the new token. ARGV: new token, subject, prefix of token
#: keys, control channel; then PX and milliseconds, if it expires. Returns 0 if the new token is
#: taken already, and has changed nothing then.
GENERATE_TOKEN = Script("""\
local former = redis.call('GET', KEYS[1])
if not redis.call('SET', KEYS[2], ARGV[2], 'NX', unpack(ARGV, 5)) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], unpack(ARGV, 5))
if former then
  redis.call('DEL', ARGV[3] .. former)
  redis.call('PUBLISH', ARGV[4], former)
end
return 1
""")

#: KEYS: the subject's current token. ARGV: prefix of token keys, control channel. Returns 1 if
#: there was a token.
CLEAR_TOKEN = Script("""\
local former = redis.call('GET', KEYS[1])
if not former then
  return 0
end
redis.call('DEL', KEYS[1], ARGV[1] .. former)
redis.call('PUBLISH', ARGV[2], former)
return 1
""")
