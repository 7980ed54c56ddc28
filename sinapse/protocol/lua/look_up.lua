-- Says who a token stands for, and what may be listened to with it.
-- KEYS: the token, retention.
-- ARGV: prefix of the sets of channels, and of the grants.
-- Returns false for an unknown token, else the subject, milliseconds that the token has left or -1,
-- the channels, the epoch and the counter, and channels with the counters of their grants, all of
-- one instant.

local subject = redis.call('GET', KEYS[1])
if not subject then
  return false
end
local position = redis.call('HMGET', KEYS[2], 'epoch', 'counter')
return {subject, redis.call('PTTL', KEYS[1]), redis.call('SMEMBERS', ARGV[1] .. subject),
  position[1] or '', position[2] or '0', redis.call('HGETALL', ARGV[2] .. subject)}
