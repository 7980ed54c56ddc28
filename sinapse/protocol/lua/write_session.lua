-- Makes a session the same as in another Redis.
-- KEYS: the subject's sessions, the session.
-- ARGV: the session's id, subject, prefix of token keys, control channel; then, unless it is to go, its
-- place among those of the subject, the milliseconds that it has left or -1, and its fields. A control
-- channel of nothing tells nobody that it goes.
-- Returns 1.

local id, subject, tokens, told, place, left = unpack(ARGV)
local former = redis.call('HGET', KEYS[2], 'token')
redis.call('DEL', KEYS[2])
if former then
  redis.call('DEL', tokens .. former)
end
if not place then
  redis.call('ZREM', KEYS[1], id)
  if former and told ~= '' then
    redis.call('PUBLISH', told, former)
  end
  return 1
end
local token, only
for at = 7, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
  token = ARGV[at] == 'token' and ARGV[at + 1] or token
  only = ARGV[at] == 'only' or only
end
if token and not only then
  redis.call('SET', tokens .. token, subject)
end
local life = left ~= '-1' and tonumber(left) or nil
if life then
  redis.call('PEXPIRE', KEYS[2], left)
  if token and not only then
    redis.call('PEXPIRE', tokens .. token, left)
  end
end
local is_first = redis.call('EXISTS', KEYS[1]) == 0
redis.call('ZADD', KEYS[1], place, id)
if is_first and life then
  redis.call('PEXPIRE', KEYS[1], left)
else
  -- include: lengthen
  lengthen(KEYS[1], life)
end
return 1
