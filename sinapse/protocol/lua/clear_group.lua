-- Removes all channels of a group, and tells every node.
-- KEYS: the channels of the group, retention.
-- ARGV: the group, control channel to withdraw, how many channels a group may have.
-- Returns how many channels there were. Since when each was is noted.

-- include: keep_of_group
-- include: fields
local counter = redis.call('HGET', KEYS[2], 'counter') or '0'
local list = redis.call('HGETALL', KEYS[1])
local channels = fields(list)
redis.call('DEL', KEYS[1])
local entries = {}
for at, channel in ipairs(channels) do
  entries[at] = {channel, list[at * 2], counter}
end
keep_of_group(ARGV[1], entries, tonumber(ARGV[3]))
for _, channel in ipairs(channels) do
  redis.call('PUBLISH', ARGV[2], counter .. ' ' .. ARGV[1] .. ' ' .. channel)
end
return #channels
