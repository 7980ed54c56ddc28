-- Ends all tokens of a subject.
-- KEYS: the subject's current token, its obtained tokens.
-- ARGV: prefix of token keys, control channel.
-- Returns the tokens that there were.

-- include: tokens
-- include: tell_revoked
redis.call('DEL', KEYS[1], KEYS[2])
for _, former in ipairs(tokens) do
  redis.call('DEL', ARGV[1] .. former)
end
tell_revoked(ARGV[2], tokens)
return tokens
