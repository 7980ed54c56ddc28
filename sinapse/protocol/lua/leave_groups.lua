-- Ends the membership of a subject in all of its groups, and tells every node.
-- KEYS: the groups of the subject, retention.
-- ARGV: the subject, control channel to leave, prefix of the members of groups.
-- Returns the groups. What the own list goes on to give the subject is noted.

-- include: keep_groups
-- include: fields
local counter = redis.call('HGET', KEYS[2], 'counter') or '0'
local joined = redis.call('HGETALL', KEYS[1])
local groups = fields(joined)
redis.call('DEL', KEYS[1])
for _, group in ipairs(groups) do
  redis.pcall('ZREM', ARGV[3] .. group, ARGV[1])
end
keep_groups(ARGV[1], joined, {}, counter)
for _, group in ipairs(groups) do
  redis.call('PUBLISH', ARGV[2], counter .. ' ' .. group)
end
return groups
