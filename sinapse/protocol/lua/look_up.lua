-- Says who a token stands for, and what may be listened to with it.
-- KEYS: the token, retention, replay; then, if it is that of a session, the session.
-- ARGV: prefix of the sets of channels, and of the grants; groups that the node keeps, each between line
-- feeds; then the token, if it is that of a session.
-- Returns false for an unknown token, or 1 if it may be in another Redis, as some have moved; else the
-- subject, milliseconds that the token has left or -1, the channels, the epoch and the counter, channels
-- with the counters of their grants, whether a new stream gets a past of any of them or of those of
-- groups, the groups as `groups_of` has them, the rights that have ended as `groups_of` has them, and the
-- channels that the token is only for, a line each, or nothing for all; all of one instant.

-- include: groups_of
local subject, key, only = redis.call('GET', KEYS[1]), KEYS[1], ''
if not subject and KEYS[4] then
  local session = redis.call('HMGET', KEYS[4], 'token', 'subject', 'only')
  if session[1] == ARGV[4] and session[3] then
    subject, key, only = session[2], KEYS[4], session[3]
  end
end
if not subject then
  return redis.call('HGET', '$MOVE', 'tokens') and 1
end
local position = redis.call('HMGET', KEYS[2], 'epoch', 'counter')
local channels = redis.call('SMEMBERS', ARGV[1] .. subject)
if redis.call('EXISTS', '$ENDS') == 1 then
  -- include: lasting
  channels = lasting(subject, channels)
end
local groups, past, former = groups_of(subject, channels, ARGV[3])
return {subject, redis.call('PTTL', key), channels, position[1] or '', position[2] or '0',
  redis.call('HGETALL', ARGV[2] .. subject), past, groups, former, only}
