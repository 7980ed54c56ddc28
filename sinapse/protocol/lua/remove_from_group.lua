-- Removes a channel from what the members of a group may listen to, and tells every node.
-- KEYS: the channels of the group, retention.
-- ARGV: the channel, the group, control channel to withdraw, how many channels a group may have.
-- Returns 1 if the channel was there. Since when it was is noted.

-- include: keep_of_group
local counter = redis.call('HGET', KEYS[2], 'counter') or '0'
local start = redis.call('HGET', KEYS[1], ARGV[1])
local removed = redis.call('HDEL', KEYS[1], ARGV[1])
if removed == 1 then
  keep_of_group(ARGV[2], {{ARGV[1], start, counter}}, tonumber(ARGV[4]))
end
redis.call('PUBLISH', ARGV[3], counter .. ' ' .. ARGV[2] .. ' ' .. ARGV[1])
return removed
