-- Makes the tokens of a subject the same as in another Redis.
-- KEYS: its current token, its obtained tokens.
-- ARGV: prefix of token keys, subject, control channel; then what `read_tokens` returns, without the
-- time. A control channel of nothing tells nobody of tokens that go.
-- Returns how many there are.

-- include: tokens
local gone = {}
for _, token in ipairs(tokens) do
  gone[token] = true
end
redis.call('DEL', KEYS[1], KEYS[2])
local count = 0
for at = 6, #ARGV, 3 do
  local token, obtained, left = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local expiry = left == '-1' and {} or {'PX', left}
  gone[token] = nil
  count = count + 1
  redis.call('SET', ARGV[1] .. token, ARGV[2], unpack(expiry))
  if token == ARGV[4] then
    redis.call('SET', KEYS[1], token, unpack(expiry))
  end
  if obtained ~= '' then
    redis.call('ZADD', KEYS[2], obtained, token)
  end
end
if tonumber(ARGV[5]) >= 0 then
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
for token in pairs(gone) do
  redis.call('DEL', ARGV[1] .. token)
end
for _, token in ipairs(tokens) do
  if gone[token] and ARGV[3] ~= '' then
    redis.call('PUBLISH', ARGV[3], token)
  end
end
return count
