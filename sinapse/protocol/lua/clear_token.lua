-- Ends all tokens of a subject.
-- KEYS: the subject's current token, its obtained tokens.
-- ARGV: prefix of token keys, control channel.
-- Returns the tokens that there were.

-- include: tokens
redis.call('DEL', KEYS[1], KEYS[2])
for _, former in ipairs(tokens) do
  redis.call('DEL', ARGV[1] .. former)
  redis.call('PUBLISH', ARGV[2], former)
end
return tokens
