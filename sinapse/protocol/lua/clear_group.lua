-- Removes all channels of a group, and tells every node.
-- KEYS: the channels of the group, retention.
-- ARGV: the group, control channel to withdraw.
-- Returns how many channels there were.

local counter = redis.call('HGET', KEYS[2], 'counter') or '0'
local channels = redis.call('HKEYS', KEYS[1])
redis.call('DEL', KEYS[1])
for _, channel in ipairs(channels) do
  redis.call('PUBLISH', ARGV[2], counter .. ' ' .. ARGV[1] .. ' ' .. channel)
end
return #channels
