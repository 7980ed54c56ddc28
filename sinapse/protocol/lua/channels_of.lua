-- Says what a subject may listen to.
-- KEYS: the set of channels.
-- ARGV: the subject.
-- Returns the channels.

local channels = redis.call('SMEMBERS', KEYS[1])
if redis.call('EXISTS', '$ENDS') == 1 then
  -- include: lasting
  channels = lasting(ARGV[1], channels)
end
return channels
