-- Tells the current token of a subject, or gives it a new one.
-- KEYS: the subject's current token, its obtained tokens, the new token.
-- ARGV: new token, subject's id, prefix of token keys, milliseconds, or nothing for a token that
-- does not expire.
-- Returns the current token, which then lives for so long at least; or the new one, if there is
-- none, or if that was obtained first so long ago, and runs out then. False if the new one is
-- taken.

-- include: prolong
-- include: now
local token, life = redis.call('GET', KEYS[1]), tonumber(ARGV[4])
local is_told = token and redis.call('GET', ARGV[3] .. token) == ARGV[2]
if is_told and life and redis.call('PTTL', KEYS[1]) >= 0 then
  redis.call('ZADD', KEYS[2], 'NX', now, token)
  is_told = now - redis.call('ZSCORE', KEYS[2], token) < life
end
if not is_told then
  token = ARGV[1]
  local obtained = redis.call('ZRANGE', KEYS[2], 0, -1)
  local expiry = life and {'PX', ARGV[4]} or {}
  if not redis.call('SET', KEYS[3], ARGV[2], 'NX', unpack(expiry)) then
    return false
  end
  redis.call('SET', KEYS[1], token, unpack(expiry))
  for _, former in ipairs(obtained) do
    if redis.call('EXISTS', ARGV[3] .. former) == 0 then
      redis.call('ZREM', KEYS[2], former)
    end
  end
  if life then
    redis.call('ZADD', KEYS[2], now, token)
  end
end
prolong(ARGV[3], token, life)
return token
