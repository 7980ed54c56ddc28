-- Removes all channels of a subject, and tells every node.
-- KEYS: the set of channels, retention, grants.
-- ARGV: control channel to remove, and to withdraw; the subject.
-- Returns how many channels there were. What a group goes on to give the subject is noted.

-- include: keep_own
local counter = redis.call('HGET', KEYS[2], 'counter') or '0'
local channels = redis.call('SMEMBERS', KEYS[1])
local count, some_end = #channels, redis.call('EXISTS', '$ENDS') == 1
if some_end then
  -- include: lasting
  count = #lasting(ARGV[3], channels)
end
local starts = {}
for at = 1, #channels do
  local start = redis.pcall('HGET', KEYS[3], channels[at])
  starts[at] = type(start) == 'string' and start
end
redis.call('DEL', KEYS[1], KEYS[3])
keep_own(ARGV[3], channels, starts, counter)
for _, channel in ipairs(channels) do
  if some_end then
    redis.pcall('ZREM', '$ENDS', ARGV[3] .. '\n' .. channel)
  end
  redis.call('PUBLISH', ARGV[2], counter .. ' ' .. channel)
  redis.call('PUBLISH', ARGV[1], channel)
end
return count
