-- Makes a token the same as in another Redis.
-- KEYS: the token.
-- ARGV: its subject, or nothing for a token that is to go; the milliseconds that it has left, or -1.
-- Returns 1.

if ARGV[1] == '' then
  redis.call('DEL', KEYS[1])
elseif ARGV[2] == '-1' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
