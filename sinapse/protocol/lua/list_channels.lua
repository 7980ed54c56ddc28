-- Says what a subject may listen to whose token is in another Redis.
-- KEYS: the channels of a subject, retention, grants, the key that says that its token was revoked.
-- Returns false if it was, else the channels, the epoch and the counter, and channels with the
-- counters of their grants.

if redis.call('EXISTS', KEYS[4]) == 1 then
  return false
end
local position = redis.call('HMGET', KEYS[2], 'epoch', 'counter')
return {redis.call('SMEMBERS', KEYS[1]), position[1] or '', position[2] or '0',
  redis.call('HGETALL', KEYS[3])}
