-- Ends the membership of a subject in a group, and tells every node.
-- KEYS: the groups of the subject, retention, the members of the group.
-- ARGV: the subject, the group, control channel to leave.
-- Returns 1 if the subject was a member. What it goes on to have by other rights is noted.

-- include: keep_groups
local counter = redis.call('HGET', KEYS[2], 'counter') or '0'
-- Its type is seen before anything is written.
redis.call('ZSCORE', KEYS[3], ARGV[1])
local joined = redis.call('HGET', KEYS[1], ARGV[2])
local removed = redis.call('HDEL', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[3], ARGV[1])
if removed == 1 then
  keep_groups(ARGV[1], {ARGV[2], joined}, redis.call('HKEYS', KEYS[1]), counter)
end
redis.call('PUBLISH', ARGV[3], counter .. ' ' .. ARGV[2])
return removed
