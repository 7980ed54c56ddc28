-- `tokens`: the current token of a subject, KEYS[1], and those before it that are left to run out,
-- of the set KEYS[2].

local tokens = redis.call('ZRANGE', KEYS[2], 0, -1)
local current = redis.call('GET', KEYS[1])
if current and not redis.call('ZSCORE', KEYS[2], current) then
  tokens[#tokens + 1] = current
end
