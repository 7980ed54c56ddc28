-- Lets a session of a subject live longer.
-- KEYS: the subject's sessions, the session.
-- ARGV: the session's id, milliseconds, or nothing for a session that does not expire any more; prefix
-- of token keys.
-- Returns 1 if there was that session. A life is never made shorter: nodes look again when it would
-- have ended.

local life = tonumber(ARGV[2])
local token = redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('HGET', KEYS[2], 'token')
if not token then
  return 0
end
-- include: lengthen
lengthen(KEYS[2], life)
lengthen(ARGV[3] .. token, life)
lengthen(KEYS[1], life)
return 1
