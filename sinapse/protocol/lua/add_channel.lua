-- Adds a channel to what a subject may listen to, and tells every node.
-- KEYS: the set of channels, retention, grants, replay.
-- ARGV: channel, control channel to add, to grant, and to grant with a past; the subject, milliseconds
-- until the grant ends or nothing if it lasts, control channel of ends.
-- Returns 1 if the channel is new; the counter of that is kept, since nothing of before may be
-- read. A node that has to subscribe first learns from which id on it has missed messages; the plain
-- announcement is all that Ruby's Sinapse knows. If new streams get a past of the channel, open ones
-- get it too: the grant takes a counter of its own, so that every id is from before it or after it.
-- If this grant is the next one of all to end, nodes are told when.

-- include: now
-- include: end_grant
-- include: end_of
local counter = redis.call('HGET', KEYS[2], 'counter') or '0'
-- Its type is seen before anything is written.
redis.call('HGET', KEYS[3], ARGV[1])
local has_past = redis.call('HEXISTS', KEYS[4], ARGV[1]) == 1
  and counter ~= '0' and is_counter(counter)
local member, lasts = ARGV[5] .. '\n' .. ARGV[1], ARGV[6]
local ends = end_of(member)
if ends and ends <= now then
  end_grant(member, counter)
  ends = nil
end
local added = redis.call('SADD', KEYS[1], ARGV[1])
if added == 1 then
  if has_past then
    counter = string.format('%.0f', redis.call('HINCRBY', KEYS[2], 'counter', 1))
  end
  redis.call('HSET', KEYS[3], ARGV[1], counter)
end
local is_next = false
if lasts == '' and ends then
  redis.call('ZREM', '$ENDS', member)
elseif lasts ~= '' then
  local noted = redis.pcall('ZADD', '$ENDS', now + lasts, member)
  if type(noted) == 'table' then
    if string.find(noted.err, 'WRONGTYPE', 1, true) then
      redis.call('DEL', '$ENDS')
    end
    redis.call('ZADD', '$ENDS', now + lasts, member)
  end
  is_next = redis.call('ZRANGE', '$ENDS', 0, 0)[1] == member
end
if added == 1 and has_past then
  redis.call('PUBLISH', ARGV[4], counter .. ' ' .. ARGV[1])
end
redis.call('PUBLISH', ARGV[3], counter .. ' ' .. ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[1])
if is_next then
  redis.call('PUBLISH', ARGV[7], lasts)
end
return added
