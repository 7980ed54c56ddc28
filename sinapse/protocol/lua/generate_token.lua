-- Gives a subject a new token, and ends those before it.
-- KEYS: the subject's current token, its obtained tokens, the new token.
-- ARGV: new token, subject, prefix of token keys, control channel; then PX and milliseconds, if it
-- expires.
-- Returns the former tokens; 0 if the new token is taken already, and has changed nothing then.

-- include: tokens
-- include: tell_revoked
if not redis.call('SET', KEYS[3], ARGV[2], 'NX', unpack(ARGV, 5)) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], unpack(ARGV, 5))
redis.call('DEL', KEYS[2])
for _, former in ipairs(tokens) do
  redis.call('DEL', ARGV[3] .. former)
end
tell_revoked(ARGV[4], tokens)
return tokens
