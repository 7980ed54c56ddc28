-- Publishes the id of this instant, and returns last ids.
-- KEYS: retention, last ids.
-- ARGV: a PUB/SUB channel, on which the id of this instant is published: whoever hears it has heard
-- every message up to there, and none after it; then channels.
-- Returns epoch, counter, the counter up to which last ids are forgotten, and for each channel the
-- counter of its last message, or false.

-- include: position
-- include: last_ids
local scores = last_ids(2)
redis.call('PUBLISH', ARGV[1], epoch .. '-' .. counter)
return {epoch, counter, floor, scores}
