-- Adds a channel to what a subject may listen to, and tells every node.
-- KEYS: the set of channels, retention, grants, replay.
-- ARGV: channel, control channel to add, to grant, and to grant with a past.
-- Returns 1 if the channel is new; the counter of that is kept, since nothing of before may be
-- read. A node that has to subscribe first learns from which id on it has missed messages; the plain
-- announcement is all that Ruby's Sinapse knows. If new streams get a past of the channel, open ones
-- get it too: the grant takes a counter of its own, so that every id is from before it or after it.

-- include: is_counter
local counter = redis.call('HGET', KEYS[2], 'counter') or '0'
-- Its type is seen before anything is written.
redis.call('HGET', KEYS[3], ARGV[1])
local has_past = redis.call('HEXISTS', KEYS[4], ARGV[1]) == 1
  and counter ~= '0' and is_counter(counter)
local added = redis.call('SADD', KEYS[1], ARGV[1])
if added == 1 then
  if has_past then
    counter = string.format('%.0f', redis.call('HINCRBY', KEYS[2], 'counter', 1))
  end
  redis.call('HSET', KEYS[3], ARGV[1], counter)
  if has_past then
    redis.call('PUBLISH', ARGV[4], counter .. ' ' .. ARGV[1])
  end
end
redis.call('PUBLISH', ARGV[3], counter .. ' ' .. ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[1])
return added
