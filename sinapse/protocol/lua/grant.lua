-- Says whether a subject may listen to a channel by its own list, and until when.
-- KEYS: the set of channels.
-- ARGV: the subject, the channel.
-- Returns 1 if it may, or 0; when the grant ends, in milliseconds, empty if it lasts; and what time it
-- is.

-- include: now
-- include: end_of
local ends = end_of(ARGV[1] .. '\n' .. ARGV[2])
local listed = redis.call('SISMEMBER', KEYS[1], ARGV[2])
if ends and ends <= now then
  listed = 0
end
local at = listed == 1 and ends and string.format('%.0f', ends) or ''
return {listed, at, string.format('%.0f', now)}
