-- Lets the grant of the channel of a run end `retain` milliseconds from `now`, if that is later. What
-- was removed, or has ended, does not come back; what was given for good stays so.

local function hold_grant(subject, channel, retain)
  redis.pcall('ZADD', '$ENDS', 'XX', 'GT', now + retain, subject .. '\n' .. channel)
end
