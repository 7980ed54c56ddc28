-- Says whether a subject has a stream somewhere.
-- KEYS: presence.
-- ARGV: subject, prefix of the sets of nodes.
-- Returns 1 if it has a stream.

-- include: now
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')) do
  if redis.call('SISMEMBER', ARGV[2] .. node, ARGV[1]) == 1 then
    return 1
  end
end
return 0
