-- Adds a channel to what a subject may listen to, and tells every node.
-- KEYS: the set of channels, retention, grants.
-- ARGV: channel, control channel to add, and to grant.
-- Returns 1 if the channel is new; the counter of that is kept, since nothing of before may be
-- read. A node that has to subscribe first learns from which id on it has missed messages; the plain
-- announcement is all that Ruby's Sinapse knows.

local counter = redis.call('HGET', KEYS[2], 'counter') or '0'
-- Its type is seen before anything is written.
redis.call('HGET', KEYS[3], ARGV[1])
local added = redis.call('SADD', KEYS[1], ARGV[1])
if added == 1 then
  redis.call('HSET', KEYS[3], ARGV[1], counter)
end
redis.call('PUBLISH', ARGV[3], counter .. ' ' .. ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[1])
return added
