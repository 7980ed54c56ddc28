"""The Lua scripts, of publisher and daemon: what has to happen as one step, in one round trip.

Each of them reads first, then writes what Redis could refuse, and publishes last: what fails for
want of memory, or on a replica, has changed nothing, and nothing is announced that was not written.
"""

import textwrap
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


#: KEYS: the set of channels, retention, grants. ARGV: channel, control channel to add, and to
#: grant. Returns 1 if the channel is new; the counter of that is kept, since nothing of before may
#: be read. A node that has to subscribe first learns from which id on it has missed messages; the
#: origin's server knows the plain announcement only.
ADD_CHANNEL = Script("""\
local counter = redis.call('HGET', KEYS[2], 'counter') or '0'
local added = redis.call('SADD', KEYS[1], ARGV[1])
if added == 1 then
  redis.call('HSET', KEYS[3], ARGV[1], counter)
end
redis.call('PUBLISH', ARGV[3], counter .. ' ' .. ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[1])
return added
""")

#: KEYS: the set of channels, retention, grants. ARGV: channel, control channel to remove, and to
#: withdraw. Returns 1 if the channel was there. A node that is reading what it missed of the
#: channel learns up to which id that may still be delivered.
REMOVE_CHANNEL = Script("""\
local counter = redis.call('HGET', KEYS[2], 'counter') or '0'
local removed = redis.call('SREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('PUBLISH', ARGV[3], counter .. ' ' .. ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[1])
return removed
""")

#: KEYS: the set of channels, retention, grants. ARGV: control channel to remove, and to withdraw.
#: Returns how many channels there were.
CLEAR_CHANNELS = Script("""\
local counter = redis.call('HGET', KEYS[2], 'counter') or '0'
local channels = redis.call('SMEMBERS', KEYS[1])
redis.call('DEL', KEYS[1], KEYS[3])
for _, channel in ipairs(channels) do
  redis.call('PUBLISH', ARGV[2], counter .. ' ' .. channel)
  redis.call('PUBLISH', ARGV[1], channel)
end
return #channels
""")

_NOW = """\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# The current token, and those before it that are left to run out.
_TOKENS = """\
local tokens = redis.call('ZRANGE', KEYS[2], 0, -1)
local current = redis.call('GET', KEYS[1])
if current and not redis.call('ZSCORE', KEYS[2], current) then
  tokens[#tokens + 1] = current
end
"""

#: KEYS: the subject's current token, its obtained tokens, the new token. ARGV: new token, subject,
#: prefix of token keys, control channel; then PX and milliseconds, if it expires. Returns the
#: former tokens; 0 if the new token is taken already, and has changed nothing then.
GENERATE_TOKEN = Script(
    _TOKENS
    + """\
if not redis.call('SET', KEYS[3], ARGV[2], 'NX', unpack(ARGV, 5)) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], unpack(ARGV, 5))
redis.call('DEL', KEYS[2])
for _, former in ipairs(tokens) do
  redis.call('DEL', ARGV[3] .. former)
  redis.call('PUBLISH', ARGV[4], former)
end
return tokens
"""
)

#: KEYS: the subject's current token, its obtained tokens. ARGV: prefix of token keys, control
#: channel. Returns the tokens that there were.
CLEAR_TOKEN = Script(
    _TOKENS
    + """\
redis.call('DEL', KEYS[1], KEYS[2])
for _, former in ipairs(tokens) do
  redis.call('DEL', ARGV[1] .. former)
  redis.call('PUBLISH', ARGV[2], former)
end
return tokens
"""
)

#: KEYS: the key that says that a token was revoked. ARGV: the token, control channel, milliseconds
#: to remember it. It tells a Redis of a token that is in another one; so does it a node that was
#: cut off from both.
REVOKE_TOKEN = Script("""\
redis.call('SET', KEYS[1], '', 'PX', ARGV[3])
return redis.call('PUBLISH', ARGV[2], ARGV[1])
""")

# Let both keys of `token` live for `life` milliseconds at least, or for ever. When it was obtained
# first is remembered for as long as it lives: the braces are the prefix of token keys.
_PROLONG = """\
for _, key in ipairs({{KEYS[1], {0} .. token}}) do
  local left = redis.call('PTTL', key)
  if not life then
    redis.call('PERSIST', key)
  elseif left >= 0 and left < life then
    redis.call('PEXPIRE', key, string.format('%.0f', life))
  end
end
local lasts = redis.call('PTTL', {0} .. token)
if lasts > redis.call('PTTL', KEYS[2]) then
  redis.call('PEXPIRE', KEYS[2], string.format('%.0f', lasts))
end
"""

#: KEYS: the subject's current token, its obtained tokens. ARGV: prefix of token keys, milliseconds,
#: or nothing for a token that does not expire any more. Returns 1 if there was a token. A life is
#: never made shorter: nodes look again when it would have ended.
RENEW_TOKEN = Script(
    """\
local token, life = redis.call('GET', KEYS[1]), tonumber(ARGV[2])
if not token or redis.call('EXISTS', ARGV[1] .. token) == 0 then
  return 0
end
"""
    + _PROLONG.format("ARGV[1]")
    + """\
return 1
"""
)

#: KEYS: the subject's current token, its obtained tokens, the new token. ARGV: new token, subject's
#: id, prefix of token keys, milliseconds, or nothing for a token that does not expire. Returns the
#: current token, which then lives for so long at least; or the new one, if there is none, or if
#: that was obtained first so long ago, and runs out then. False if the new one is taken.
OBTAIN_TOKEN = Script(
    _NOW
    + """\
local token, life = redis.call('GET', KEYS[1]), tonumber(ARGV[4])
local is_told = token and redis.call('GET', ARGV[3] .. token) == ARGV[2]
if is_told and life and redis.call('PTTL', KEYS[1]) >= 0 then
  redis.call('ZADD', KEYS[2], 'NX', now, token)
  is_told = now - redis.call('ZSCORE', KEYS[2], token) < life
end
if not is_told then
  token = ARGV[1]
  local expiry = life and {'PX', ARGV[4]} or {}
  if not redis.call('SET', KEYS[3], ARGV[2], 'NX', unpack(expiry)) then
    return false
  end
  redis.call('SET', KEYS[1], token, unpack(expiry))
  for _, former in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    if redis.call('EXISTS', ARGV[3] .. former) == 0 then
      redis.call('ZREM', KEYS[2], former)
    end
  end
  if life then
    redis.call('ZADD', KEYS[2], now, token)
  end
end
"""
    + _PROLONG.format("ARGV[3]")
    + """\
return token
"""
)

# An epoch is a time during which ids went up by one from message to message and none was given
# twice. It ends with the process of Redis, since nobody can know what of its data came back with
# the next one. The new epoch goes on counting where the data say; what the former one had counted
# to by then is written down, so that an id of its is known to be older, or to be lost. Without an
# epoch, nothing is known of former ones either. A counter begins with the clock, in tenths of a
# millisecond, and never gains on it: so the ids after a loss are above all that were given before.
_BEGIN_EPOCH = """\
local began
local function begin_epoch(run)
  local time = redis.call('TIME')
  local epoch = string.sub(run, 1, 2) .. string.format('%x', time[1] * 1000000 + time[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'run', run)
  local first = string.format('%.0f', time[1] * 10000 + math.floor(time[2] / 100))
  redis.call('HSETNX', KEYS[1], 'counter', first)
  began = epoch
  return epoch
end
local function end_epoch(epoch, counter)
  redis.call('HSET', KEYS[2], epoch, counter)
  local ended = redis.call('HKEYS', KEYS[2])
  if #ended > 64 then
    table.sort(ended, function(a, b) return string.sub(a, 3) < string.sub(b, 3) end)
    redis.call('HDEL', KEYS[2], ended[1])
  end
end
local function current_epoch()
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  local state = redis.call('HMGET', KEYS[1], 'epoch', 'run', 'counter')
  if state[1] and state[2] == run then
    return state[1]
  end
  local epoch = begin_epoch(run)
  if state[1] then
    end_epoch(state[1], state[3] or '0')
  else
    redis.call('DEL', KEYS[2])
  end
  return epoch
end
"""

#: KEYS: a key that is never there. ARGV: channel and payload of each message, in turn. Returns for
#: each how many nodes heard it, or the text of an error. The first command changes nothing, but is
#: refused where nothing can be written, and where a bare PUBLISH would reach nobody: on a replica,
#: without memory, with a full disk.
PUBLISH_PLAIN = Script("""\
redis.call('SET', KEYS[1], '', 'XX')
local results = {}
for index = 1, #ARGV, 2 do
  local heard = redis.pcall('PUBLISH', ARGV[index], ARGV[index + 1])
  results[#results + 1] = type(heard) == 'table' and heard.err or heard
end
return results
""")

#: KEYS: the key of the message id. ARGV: channel, payload, milliseconds to remember the message
#: id. Returns how many nodes heard the message, -1 if it was published before.
PUBLISH_ONCE = Script("""\
if not redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[3]) then
  return -1
end
return redis.call('PUBLISH', ARGV[1], ARGV[2])
""")

# The epoch of a message, where `nodes` is the PUB/SUB channel of the nodes. They stand for an
# epoch, and not for a Redis: PUB/SUB knows no databases, and the nodes of another one look after
# its own.
_EPOCH = (
    """\
local epoch = redis.call('HGET', KEYS[1], 'epoch')
-- Nodes look at the epoch when they connect; while none stands for it, Redis may have started anew.
if not epoch or redis.call('PUBSUB', 'NUMSUB', nodes .. ':' .. epoch)[2] == 0 then
"""
    + textwrap.indent(_BEGIN_EPOCH, "  ")
    + """\
  epoch = current_epoch()
end
"""
)

# Retain a message in `key`, its id made of `epoch` and `digits`, the counter: `body` is the payload
# without that, `expiry` when it expires, `before` the counter of the one before it; the braces may
# limit how many are kept. `added` may be an error, and nothing is retained then.
_STORE = """\
local payload = body .. string.char(161 + #epoch + #digits) .. epoch .. '-' .. digits
local entry = digits .. '-' .. expiry
local added = redis.pcall('XADD', key, {}entry, 'p', payload, 'b', before)
if type(added) == 'table' and string.find(added.err, 'equal or smaller', 1, true) then
  -- The counter went back, but not the messages: what nobody can resume from is not kept.
  redis.call('DEL', key)
  added = redis.call('XADD', key, entry, 'p', payload, 'b', string.format('%.0f', counter - 1))
end
"""

# Let `key` live for as long as its last message, and remove what has expired. Last ids are
# forgotten a `horizon` after their messages; of a message that is retained for longer than half of
# that, the key says for another half that it was there.
_TIDY = """\
local life = retain
if life > horizon / 2 then
  life = life + horizon / 2
end
if redis.call('PTTL', key) < life then
  redis.call('PEXPIRE', key, string.format('%.0f', life))
end
-- What has expired before the last message is removed now and then, at random.
if time[2] % 8 == 0 then
  for _ = 1, 16 do
    local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
    if tonumber(string.match(oldest[1], '%-(%d+)')) > now then
      break
    end
    redis.call('XDEL', key, oldest[1])
  end
end
"""

# Where there are no last ids at all, they are lost, or there never was one: nothing is known of
# what was published up to the counter in the braces.
_FLOOR = """\
if redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('HSET', KEYS[1], 'floor', string.format('%.0f', {}))
end
"""

# Note when `counter` was, and forget the last ids of channels that are older than `horizon`.
_CHECKPOINT = """\
if counter % 1024 == 0 then
  redis.call('RPUSH', KEYS[4], string.format('%.0f %.0f', counter, now))
  for _ = 1, 2 do
    local oldest = redis.call('LINDEX', KEYS[4], 0)
    local passed, at = string.match(oldest or '', '(%d+) (%d+)')
    if passed and tonumber(at) < now - horizon then
      redis.call('LPOP', KEYS[4])
      redis.call('HSET', KEYS[1], 'floor', passed)
      redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', passed)
    end
  end
end
"""

#: KEYS: retention, epochs, last ids, checkpoints, retained messages of the channel; then the key
#: of the message id, if the caller gave one. ARGV: channel, payload without the id, milliseconds
#: to retain, messages to retain, PUB/SUB channel of the nodes, milliseconds to remember last ids;
#: then milliseconds to remember the message id. Returns how many nodes heard the message, -1 if
#: it was published before.
PUBLISH_RETAINED = Script(
    """\
local channel, body, retain, most, nodes, horizon = unpack(ARGV)
local key = KEYS[5]
retain = tonumber(retain)
if KEYS[6] and redis.call('EXISTS', KEYS[6]) == 1 then
  return -1
end
"""
    + _EPOCH
    + """\
local counter = redis.call('HINCRBY', KEYS[1], 'counter', 1)
local before = redis.call('ZSCORE', KEYS[3], channel)
if not before then
"""
    + textwrap.indent(_FLOOR.format("counter - 1"), "  ")
    + """\
  before = redis.call('HGET', KEYS[1], 'floor') or '0'
end
"""
    + _NOW
    + """\
local digits, expiry = string.format('%.0f', counter), string.format('%.0f', now + retain)
"""
    + _STORE.format("'MAXLEN', '=', most, ")
    + """\
if type(added) == 'table' then
  return added
end
redis.call('ZADD', KEYS[3], digits, channel)
"""
    + _TIDY
    + _CHECKPOINT
    + """\
if KEYS[6] then
  redis.call('SET', KEYS[6], '', 'PX', ARGV[7])
end
return redis.call('PUBLISH', channel, payload)
"""
)

#: The same for several messages, in their order. KEYS: retention, epochs, last ids, checkpoints;
#: then for each message the retained messages of its channel, and the key of its message id if it
#: has one. ARGV: PUB/SUB channel of the nodes, milliseconds to remember last ids; then for each
#: message its channel, payload without the id, milliseconds to retain, messages to retain, and
#: milliseconds to remember the message id, empty if it has none. Returns for each message how many
#: nodes heard it, -1 if it was published before, or the text of an error if it could not be
#: retained. All are retained before the first one is published.
PUBLISH_ALL = Script(
    """\
local nodes, horizon = ARGV[1], ARGV[2]
local floor
"""
    + _EPOCH
    + _NOW
    + """\
local count = (#ARGV - 2) / 5
local counter = redis.call('HINCRBY', KEYS[1], 'counter', count) - count
"""
    + _FLOOR.format("counter")
    + """\
local results, payloads, expiries = {}, {}, {}
local channels, keys, last, longest, limits = {}, {}, {}, {}, {}
local at = 4
for index = 1, count do
  local channel, body, retain, most, remember = unpack(ARGV, 5 * index - 2, 5 * index + 2)
  local key, sent = KEYS[at + 1], remember ~= '' and KEYS[at + 2]
  at = at + (sent and 2 or 1)
  retain = tonumber(retain)
  counter = counter + 1
  local digits = string.format('%.0f', counter)
  local expiry = expiries[retain]
  if not expiry then
    expiry = string.format('%.0f', now + retain)
    expiries[retain] = expiry
  end
  if sent and redis.call('EXISTS', sent) == 1 then
    results[index] = -1
  else
    local before = last[channel] or redis.call('ZSCORE', KEYS[3], channel)
    if not before then
      floor = floor or redis.call('HGET', KEYS[1], 'floor') or '0'
      before = floor
    end
"""
    + textwrap.indent(_STORE.format(""), "    ")
    + """\
    if type(added) == 'table' then
      results[index] = added.err
    else
      if not last[channel] then
        channels[#channels + 1] = channel
      end
      keys[channel], last[channel], limits[channel] = key, digits, most
      payloads[index] = payload
      if retain > (longest[channel] or 0) then
        longest[channel] = retain
      end
      if sent then
        redis.call('SET', sent, '', 'PX', remember)
      end
    end
  end
"""
    + textwrap.indent(_CHECKPOINT, "  ")
    + """\
  if counter % 1024 == 0 then
    floor = nil
  end
end
for _, channel in ipairs(channels) do
  local key, retain = keys[channel], longest[channel]
  redis.call('XTRIM', key, 'MAXLEN', '=', limits[channel])
  redis.call('ZADD', KEYS[3], last[channel], channel)
"""
    + textwrap.indent(_TIDY, "  ")
    + """\
end
for index = 1, count do
  results[index] = results[index] or redis.call('PUBLISH', ARGV[5 * index - 2], payloads[index])
end
return results
"""
)

#: What a node does when it connects. KEYS: retention, epochs. ARGV: the epoch and the counter of
#: the last id that the node knows; empty and 0 at first. Returns the epoch, the counter, 1 if the
#: node can go on from what it knows or 0 if something was lost, the former epochs with the counters
#: they ended at, and the counter up to which what the node knows is the same here; -1 if none is.
ATTACH = Script(
    _BEGIN_EPOCH
    + """\
local epoch = current_epoch()
local counter = redis.call('HGET', KEYS[1], 'counter') or '0'
local reached = counter
if ARGV[1] ~= epoch then
  reached = redis.call('HGET', KEYS[2], ARGV[1])
end
local continues = 1
if ARGV[1] ~= '' and tonumber(reached or '-1') < tonumber(ARGV[2]) then
  continues = 0
  -- What somebody may have received is gone, and so may be what nobody here has: nobody can go on
  -- from an id that was given before, nor from one of this epoch if somebody went on to it without
  -- knowing. Epochs of which that was found out end at -1.
  local spoilt = ARGV[1] == epoch
  -- Where that was found out before, what has come since then is of who knows.
  for _, name in ipairs(reached == '-1' and {} or redis.call('HKEYS', KEYS[2])) do
    spoilt = spoilt or redis.call('HGET', KEYS[2], name) ~= '-1'
    redis.call('HSET', KEYS[2], name, '-1')
  end
  if spoilt and began ~= epoch then
    end_epoch(epoch, '-1')
    epoch = begin_epoch(redis.call('HGET', KEYS[1], 'run'))
  end
end
local same = math.min(tonumber(reached or '-1'), tonumber(ARGV[2]))
local ended = redis.call('HGETALL', KEYS[2])
return {epoch, counter, continues, ended, string.format('%.0f', same)}
"""
)

# The epoch, the counter, and the counter up to which last ids are forgotten, of this instant.
_POSITION = """\
local epoch, counter, floor = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'counter', 'floor'))
epoch, counter, floor = epoch or '0', counter or '0', floor or '0'
if redis.call('EXISTS', KEYS[2]) == 0 then
  floor = counter
end
"""

# Of the channels in ARGV, from the number in the braces on, the last ids as `scores`.
_LAST_IDS = """\
local scores = {{}}
for first = {0}, #ARGV, 1000 do
  local some = redis.call('ZMSCORE', KEYS[2], unpack(ARGV, first, math.min(first + 999, #ARGV)))
  for _, score in ipairs(some) do
    scores[#scores + 1] = score
  end
end
"""

#: KEYS: retention, last ids. ARGV: a PUB/SUB channel, on which the id of this instant is published:
#: whoever hears it has heard every message up to there, and none after it; then channels. Returns
#: epoch, counter, the counter up to which last ids are forgotten, and for each channel the counter
#: of its last message, or false.
MARK = Script(
    _POSITION
    + _LAST_IDS.format(2)
    + """\
redis.call('PUBLISH', ARGV[1], epoch .. '-' .. counter)
return {epoch, counter, floor, scores}
"""
)

#: The same for channels alone, and nothing is published. KEYS: retention, last ids. ARGV: channels.
LAST_IDS = Script(
    _POSITION
    + _LAST_IDS.format(1)
    + """\
return {epoch, counter, floor, scores}
"""
)

#: KEYS: the token, retention. ARGV: prefix of the sets of channels, and of the grants. Returns
#: false for an unknown token, else the subject, milliseconds that the token has left or -1, the
#: channels, the epoch and the counter, and channels with the counters of their grants, all of one
#: instant.
LOOK_UP = Script("""\
local subject = redis.call('GET', KEYS[1])
if not subject then
  return false
end
local position = redis.call('HMGET', KEYS[2], 'epoch', 'counter')
return {subject, redis.call('PTTL', KEYS[1]), redis.call('SMEMBERS', ARGV[1] .. subject),
  position[1] or '', position[2] or '0', redis.call('HGETALL', ARGV[2] .. subject)}
""")

#: KEYS: the channels of a subject, retention, grants, the key that says that its token was revoked.
#: Returns false if it was, else the channels, the epoch and the counter, and channels with the
#: counters of their grants.
LIST_CHANNELS = Script("""\
if redis.call('EXISTS', KEYS[4]) == 1 then
  return false
end
local position = redis.call('HMGET', KEYS[2], 'epoch', 'counter')
return {redis.call('SMEMBERS', KEYS[1]), position[1] or '', position[2] or '0',
  redis.call('HGETALL', KEYS[3])}
""")

#: KEYS: retention, last ids, then the retained messages of each channel. ARGV: the last counter
#: to read, or empty for the current one; messages and bytes that are enough of a channel, and of
#: all; then the counter to read after for each channel; then the channels. Returns the last
#: counter, then for each channel: a counter such that messages up to there may be gone and none
#: after it is, 1 if there is more to read or 0, counters and payloads in turn, and what Redis said
#: if these could not be read.
READ_HISTORY = Script(
    _POSITION
    + """\
local upto = ARGV[1] ~= '' and ARGV[1] or counter
local channels = #KEYS - 2
"""
    + _LAST_IDS.format("6 + channels")
    + """\
local active = 0
for index = 1, channels do
  local last = scores[index]
  if last and tonumber(last) <= tonumber(ARGV[5 + index]) then
    scores[index] = nil
  else
    active = active + 1
  end
end
local most = math.max(1, math.min(ARGV[2], math.floor(ARGV[4] / active)))
local size = math.max(1, math.min(ARGV[3], math.floor(ARGV[5] / active)))
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {upto}
for index = 1, channels do
  local key, last, start = KEYS[2 + index], scores[index], ARGV[5 + index] + 1
  local entries, bytes, more, page = {}, 0, 0, nil
  if last == nil then
    answer[#answer + 1] = {'0', 0, entries}
  else
    local oldest = redis.pcall('XRANGE', key, '-', '+', 'COUNT', 1)
    if oldest.err and not string.find(oldest.err, 'WRONGTYPE', 1, true) then
      return oldest
    elseif oldest.err then
      answer[#answer + 1] = {upto, 0, entries, oldest.err}
    else
      local gone = oldest[1] and oldest[1][2][4] or last or floor
      repeat
        page = redis.call('XRANGE', key, string.format('%.0f', start), upto, 'COUNT', 16)
        for _, entry in ipairs(page) do
          if #entries >= 2 * most or bytes >= size then
            more = 1
            break
          end
          local digits, expiry = string.match(entry[1], '(%d+)%-(%d+)')
          if tonumber(expiry) > now then
            entries[#entries + 1] = digits
            entries[#entries + 1] = entry[2][2]
            bytes = bytes + #entry[2][2]
          elseif tonumber(digits) > tonumber(gone) then
            gone = digits
          end
          start = digits + 1
        end
      until more == 1 or #page < 16
      answer[#answer + 1] = {gone, more, entries}
    end
  end
end
return answer
"""
)

# Presence: each node has a lease, which is a member of one sorted set with its end as score, and
# the set of the subjects with streams there. So a node that dies is known to be gone without
# anybody having written so, and to go on being there is one command, however many subjects it has.
# While a node is in the sorted set, its subjects are those that have been told to be there.
_ELSEWHERE = """\
local function is_elsewhere(nodes, this, subject)
  for _, node in ipairs(nodes) do
    if node ~= this and redis.call('SISMEMBER', ARGV[2] .. node, subject) == 1 then
      return true
    end
  end
  return false
end
"""

#: KEYS: presence, subjects of the node. ARGV: node, milliseconds of its lease, milliseconds to
#: remember what it leaves behind, 1 to begin. Returns 1, or 0 if the lease has run out: others may
#: have told that its subjects are gone.
HOLD_PRESENCE = Script(
    _NOW
    + """\
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ARGV[4] ~= '1' and (not lease or tonumber(lease) < now) then
  return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
"""
)

#: KEYS: presence, subjects of the node. ARGV: node, prefix of such sets, PUB/SUB channel of joins,
#: milliseconds to remember; then subjects. Returns 1, or 0 if the lease has run out.
JOIN_PRESENCE = Script(
    _NOW
    + _ELSEWHERE
    + """\
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0') < now then
  return 0
end
local nodes, joined = redis.call('ZRANGE', KEYS[1], 0, -1), {}
for index = 5, #ARGV do
  local subject = ARGV[index]
  local is_new = redis.call('SISMEMBER', KEYS[2], subject) == 0
  if is_new and not is_elsewhere(nodes, ARGV[1], subject) then
    joined[#joined + 1] = subject
  end
end
redis.call('SADD', KEYS[2], unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[2], ARGV[4])
for _, subject in ipairs(joined) do
  redis.call('PUBLISH', ARGV[3], subject)
end
return 1
"""
)

#: KEYS: presence, subjects of the node. ARGV: node, prefix of such sets, PUB/SUB channel of leaves;
#: then subjects. Returns 1, or 0 if the lease has run out.
LEAVE_PRESENCE = Script(
    _NOW
    + _ELSEWHERE
    + """\
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0') < now then
  return 0
end
local nodes = redis.call('ZRANGE', KEYS[1], 0, -1)
for index = 4, #ARGV do
  local subject = ARGV[index]
  if redis.call('SREM', KEYS[2], subject) == 1 and not is_elsewhere(nodes, ARGV[1], subject) then
    redis.call('PUBLISH', ARGV[3], subject)
  end
end
return 1
"""
)

#: KEYS: presence. ARGV: subjects at once, prefix of the sets of nodes, PUB/SUB channel of leaves.
#: Tells of subjects whose node is gone. Returns 1 if there may be more.
SWEEP_PRESENCE = Script(
    _NOW
    + _ELSEWHERE
    + """\
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now, 'LIMIT', 0, 1)[1]
if not gone then
  return 0
end
local nodes = redis.call('ZRANGE', KEYS[1], 0, -1)
local subjects = redis.call('SPOP', ARGV[2] .. gone, ARGV[1])
if #subjects < tonumber(ARGV[1]) then
  redis.call('ZREM', KEYS[1], gone)
end
for _, subject in ipairs(subjects) do
  if not is_elsewhere(nodes, gone, subject) then
    redis.call('PUBLISH', ARGV[3], subject)
  end
end
return 1
"""
)

#: KEYS: presence. ARGV: subject, prefix of the sets of nodes. Returns 1 if it has a stream.
IS_ONLINE = Script(
    _NOW
    + """\
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')) do
  if redis.call('SISMEMBER', ARGV[2] .. node, ARGV[1]) == 1 then
    return 1
  end
end
return 0
"""
)

#: KEYS: presence. ARGV: channel, prefix of the sets of nodes, prefix of the sets of channels, where
#: to go on: a node and a cursor, both empty at first; subjects at once. Returns where to go on, the
#: node being empty when all were seen, and subjects with streams that may listen to the channel.
ONLINE_IN = Script(
    _NOW
    + """\
local nodes = redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')
table.sort(nodes)
for _, node in ipairs(nodes) do
  if node > ARGV[4] or (node == ARGV[4] and ARGV[5] ~= '0') then
    local cursor = node == ARGV[4] and ARGV[5] or '0'
    local page = redis.call('SSCAN', ARGV[2] .. node, cursor, 'COUNT', ARGV[6])
    local found = {}
    for _, subject in ipairs(page[2]) do
      if redis.call('SISMEMBER', ARGV[3] .. subject, ARGV[1]) == 1 then
        found[#found + 1] = subject
      end
    end
    return {node, page[1], found}
  end
end
return {'', '', {}}
"""
)
