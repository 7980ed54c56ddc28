-- Says which tokens a subject has.
-- KEYS: its current token, its obtained tokens.
-- ARGV: prefix of token keys, subject.
-- Returns what time it is, in milliseconds; the current token, or nothing; for how long it is known when
-- tokens were obtained, in milliseconds; then each token, when it was obtained first, or nothing, and the
-- milliseconds that it has left or -1.

-- include: now
-- include: tokens
local found = {string.format('%.0f', now), '', redis.call('PTTL', KEYS[2])}
for _, token in ipairs(tokens) do
  if redis.call('GET', ARGV[1] .. token) == ARGV[2] then
    if token == current then
      found[2] = token
    end
    found[#found + 1] = token
    found[#found + 1] = redis.call('ZSCORE', KEYS[2], token) or ''
    found[#found + 1] = redis.call('PTTL', ARGV[1] .. token)
  end
end
return found
