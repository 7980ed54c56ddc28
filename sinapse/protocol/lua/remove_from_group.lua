-- Removes a channel from what the members of a group may listen to, and tells every node.
-- KEYS: the channels of the group, retention.
-- ARGV: the channel, the group, control channel to withdraw.
-- Returns 1 if the channel was there.

local counter = redis.call('HGET', KEYS[2], 'counter') or '0'
local removed = redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[3], counter .. ' ' .. ARGV[2] .. ' ' .. ARGV[1])
return removed
