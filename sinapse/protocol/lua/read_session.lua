-- Says what a session is.
-- KEYS: the subject's sessions, the session.
-- ARGV: the session's id.
-- Returns what time it is, in milliseconds; then, if there is that session, its place among those of the
-- subject, the milliseconds that it has left or -1, and its fields.

-- include: now
local at, place = string.format('%.0f', now), redis.call('ZSCORE', KEYS[1], ARGV[1])
if not place or redis.call('EXISTS', KEYS[2]) == 0 then
  return {at}
end
return {at, place, redis.call('PTTL', KEYS[2]), redis.call('HGETALL', KEYS[2])}
