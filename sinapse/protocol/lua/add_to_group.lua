-- Adds a channel to what the members of a group may listen to, and tells every node.
-- KEYS: the channels of the group, retention, replay.
-- ARGV: the channel, the group, control channel to grant, how many channels a group may have.
-- Returns 1 if the channel is new, 0 if it is not, and -1 if the group has that many already. A past
-- of the channel is for the open streams of all members, as with the list of a subject. Grants whose
-- time has come are ended before: they are no rights beside it.

-- include: is_counter
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
  return 0
elseif redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then
  return -1
end
-- The types are seen before anything is written.
local is_past = redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1
if redis.call('EXISTS', '$ENDS') == 1 then
  -- include: now
  -- include: end_grants
  end_grants(100, now)
end
local counter, past = redis.call('HGET', KEYS[2], 'counter') or '0', 0
if is_past and counter ~= '0' and is_counter(counter) then
  counter = string.format('%.0f', redis.call('HINCRBY', KEYS[2], 'counter', 1))
  past = 1
end
redis.call('HSET', KEYS[1], ARGV[1], counter)
redis.call('PUBLISH', ARGV[3], counter .. ' ' .. past .. ' ' .. ARGV[2] .. ' ' .. ARGV[1])
return 1
