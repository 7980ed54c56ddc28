-- Publishes a message of a run, which is a sign of life too, or its end.
-- KEYS: retention, epochs, last ids, checkpoints, replay, what is running, the run, retained messages
-- of its channel.
-- ARGV: id, channel, payload without the id, number of the message in the run, state after it,
-- milliseconds for which a sign of life holds, messages to retain, PUB/SUB channel of the nodes,
-- milliseconds to remember last ids.
-- Returns 1, also for a message that was published before; else nothing was changed, and it is the
-- state of a run that is over, empty if the run is not known.

local id, channel, body, number, after, lease, most, nodes, horizon = unpack(ARGV)
local state, told, subject, retain =
  unpack(redis.call('HMGET', KEYS[7], 'state', 'messages', 'subject', 'retain'))
if not state then
  return ''
elseif tonumber(told) >= tonumber(number) then
  return 1
elseif state ~= 'running' then
  return state
end
-- include: epoch
-- include: now
-- include: tell
local failure = tell(subject, channel, KEYS[8], body, tonumber(retain), after == 'running')
if failure then
  return failure
end
local seen = string.format('%.0f', now)
redis.call('HSET', KEYS[7], 'state', after, 'messages', number, 'seen', seen)
if after == 'running' then
  redis.call('PEXPIRE', KEYS[7], string.format('%.0f', retain + 3 * lease))
  redis.call('ZADD', KEYS[6], string.format('%.0f', now + lease), id)
else
  redis.call('PEXPIRE', KEYS[7], retain)
  redis.call('ZREM', KEYS[6], id)
end
return 1
