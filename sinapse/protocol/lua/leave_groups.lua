-- Ends the membership of a subject in all of its groups, and tells every node.
-- KEYS: the groups of the subject, retention.
-- ARGV: the subject, control channel to leave, prefix of the members of groups.
-- Returns the groups.

local counter = redis.call('HGET', KEYS[2], 'counter') or '0'
local groups = redis.call('HKEYS', KEYS[1])
redis.call('DEL', KEYS[1])
for _, group in ipairs(groups) do
  redis.pcall('ZREM', ARGV[3] .. group, ARGV[1])
  redis.call('PUBLISH', ARGV[2], counter .. ' ' .. group)
end
return groups
