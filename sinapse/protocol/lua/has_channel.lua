-- Says whether a subject may listen to a channel.
-- KEYS: the set of channels.
-- ARGV: the subject, the channel.
-- Returns 1 if it may.

-- include: lasting
if redis.call('SISMEMBER', KEYS[1], ARGV[2]) == 0 then
  return 0
end
return #lasting(ARGV[1], {ARGV[2]})
