-- Removes a channel from what a subject may listen to, and tells every node.
-- KEYS: the set of channels, retention, grants.
-- ARGV: channel, control channel to remove, and to withdraw; the subject.
-- Returns 1 if the channel was there. A node that is reading what it missed of the channel learns
-- up to which id that may still be delivered. If a group goes on to give the channel to the subject, what
-- has ended is noted.

-- include: end_of
-- include: keep_own
local counter = redis.call('HGET', KEYS[2], 'counter') or '0'
-- Its type is seen before anything is written.
local start = redis.call('HGET', KEYS[3], ARGV[1])
local member = ARGV[4] .. '\n' .. ARGV[1]
local ends = end_of(member)
local removed = redis.call('SREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
if removed == 1 then
  keep_own(ARGV[4], {ARGV[1]}, {start}, counter)
end
if ends then
  redis.call('ZREM', '$ENDS', member)
  -- include: now
  removed = ends > now and removed or 0
end
redis.call('PUBLISH', ARGV[3], counter .. ' ' .. ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[1])
return removed
