-- Lets the current token of a subject live longer.
-- KEYS: the subject's current token, its obtained tokens.
-- ARGV: prefix of token keys, milliseconds, or nothing for a token that does not expire any more.
-- Returns 1 if there was a token. A life is never made shorter: nodes look again when it would have
-- ended.

-- include: prolong
local token, life = redis.call('GET', KEYS[1]), tonumber(ARGV[2])
if not token or redis.call('EXISTS', ARGV[1] .. token) == 0 then
  return 0
end
prolong(ARGV[1], token, life)
return 1
