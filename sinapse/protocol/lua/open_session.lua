-- Opens a session of a subject; if there are too many, the oldest ones end.
-- KEYS: the subject's sessions, the session, its token.
-- ARGV: the session's id, token, subject, milliseconds, or nothing for a session that does not expire;
-- device, or nothing; the channels that it is only for, a line each, or nothing; how many sessions
-- there may be, prefix of sessions, prefix of token keys, control channel.
-- Returns the ids of the sessions that were ended, and their tokens; 0 if the token is taken already,
-- and has changed nothing then. A token for a part of the channels has no key of its own: a server that
-- does not know of parts does not know it.

-- include: now
local id, token, subject, life, device, only, most, prefix, tokens, told = unpack(ARGV)
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then
  return 0
end
-- include: sessions_there
local ids, held = sessions_there(prefix)
local ended, revoked = {}, {}
for at = 1, #ids + 1 - most do
  ended[at], revoked[at] = ids[at], held[at]
end
-- include: end_sessions
-- include: tell_revoked
end_sessions(ended, revoked, prefix, tokens)
redis.call('HSET', KEYS[2], 'token', token, 'subject', subject, 'opened', string.format('%.0f', now))
if device ~= '' then
  redis.call('HSET', KEYS[2], 'device', device)
end
if only ~= '' then
  redis.call('HSET', KEYS[2], 'only', only)
else
  redis.call('SET', KEYS[3], subject)
end
if life ~= '' then
  redis.call('PEXPIRE', KEYS[2], life)
  redis.call('PEXPIRE', KEYS[3], life)
end
local is_first = redis.call('EXISTS', KEYS[1]) == 0
redis.call('ZADD', KEYS[1], string.format('%.0f', time[1] * 1000000 + time[2]), id)
if is_first and life ~= '' then
  redis.call('PEXPIRE', KEYS[1], life)
else
  -- include: lengthen
  lengthen(KEYS[1], tonumber(life))
end
tell_revoked(told, revoked)
return {ended, revoked}
