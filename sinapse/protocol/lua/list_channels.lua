-- Says what a subject may listen to whose token is in another Redis.
-- KEYS: the channels of a subject, retention, replay, grants, the key that says that its token was
-- revoked.
-- ARGV: the subject; groups that the node keeps, each between line feeds.
-- Returns false if it was, else the channels, the epoch and the counter, channels with the counters
-- of their grants, whether a new stream gets a past of any of them or of those of groups, the groups as
-- `groups_of` has them, and the rights that have ended as `groups_of` has them.

-- include: groups_of
if redis.call('EXISTS', KEYS[5]) == 1 then
  return false
end
local position = redis.call('HMGET', KEYS[2], 'epoch', 'counter')
local channels = redis.call('SMEMBERS', KEYS[1])
if redis.call('EXISTS', '$ENDS') == 1 then
  -- include: lasting
  channels = lasting(ARGV[1], channels)
end
local groups, past, former = groups_of(ARGV[1], channels, ARGV[2])
return {channels, position[1] or '', position[2] or '0', redis.call('HGETALL', KEYS[4]),
  past, groups, former}
