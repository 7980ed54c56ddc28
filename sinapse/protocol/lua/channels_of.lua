-- Says what a subject may listen to.
-- KEYS: the set of channels.
-- ARGV: the subject.
-- Returns the channels.

-- include: lasting
return lasting(ARGV[1], redis.call('SMEMBERS', KEYS[1]))
