-- Says whether a subject may listen to a channel.
-- KEYS: the set of channels.
-- ARGV: the subject, the channel.
-- Returns 1 if it may.

local found = redis.call('SISMEMBER', KEYS[1], ARGV[2])
if found == 1 and redis.call('EXISTS', '$ENDS') == 1 then
  -- include: lasting
  found = #lasting(ARGV[1], {ARGV[2]})
end
return found
