-- Makes a subject a member of a group, and tells every node.
-- KEYS: the groups of the subject, retention, replay, the channels of the group, its members.
-- ARGV: the subject, the group, control channel to join, how many groups a subject may be in.
-- Returns 1 if that is new, 0 if it is not, and -1 if the subject is in that many groups already. The
-- nodes get the list of the group as it is now: one that has no member yet need not ask. If new
-- streams get a past of a channel of the group, the open ones of the member get it too: then this
-- takes a counter of its own, so that every id is from before it or after it. Grants whose time has come
-- are ended before: they are no rights beside it.

-- include: is_counter
-- include: has_past
-- include: fields
if redis.call('HEXISTS', KEYS[1], ARGV[2]) == 1 then
  return 0
elseif redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then
  return -1
end
local counter = redis.call('HGET', KEYS[2], 'counter') or '0'
local channels = redis.call('HGETALL', KEYS[4])
-- Its type is seen before anything is written.
redis.call('ZSCORE', KEYS[5], ARGV[1])
if redis.call('EXISTS', '$ENDS') == 1 then
  -- include: now
  -- include: end_grants
  end_grants(100, now)
end
local past = has_past(fields(channels))
if past == 1 and counter ~= '0' and is_counter(counter) then
  counter = string.format('%.0f', redis.call('HINCRBY', KEYS[2], 'counter', 1))
else
  past = 0
end
redis.call('HSET', KEYS[1], ARGV[2], counter)
redis.call('ZADD', KEYS[5], 0, ARGV[1])
local lines = {counter .. ' ' .. past .. ' ' .. ARGV[2]}
for at = 1, #channels, 2 do
  lines[#lines + 1] = channels[at + 1] .. ' ' .. channels[at]
end
redis.call('PUBLISH', ARGV[3], table.concat(lines, '\n'))
return 1
