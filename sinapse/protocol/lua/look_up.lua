-- Says who a token stands for, and what may be listened to with it.
-- KEYS: the token, retention, replay.
-- ARGV: prefix of the sets of channels, and of the grants.
-- Returns false for an unknown token, else the subject, milliseconds that the token has left or -1,
-- the channels, the epoch and the counter, channels with the counters of their grants, and whether a
-- new stream gets a past of any of them, all of one instant.

-- include: has_past
local subject = redis.call('GET', KEYS[1])
if not subject then
  return false
end
local position = redis.call('HMGET', KEYS[2], 'epoch', 'counter')
local channels = redis.call('SMEMBERS', ARGV[1] .. subject)
if redis.call('EXISTS', '$ENDS') == 1 then
  -- include: lasting
  channels = lasting(subject, channels)
end
return {subject, redis.call('PTTL', KEYS[1]), channels, position[1] or '', position[2] or '0',
  redis.call('HGETALL', ARGV[2] .. subject), has_past(channels)}
