-- Tells a Redis of a token that is in another one. A node that was cut off from both learns it when
-- it is back.
-- KEYS: the key that says that a token was revoked.
-- ARGV: the token, control channel, milliseconds to remember it.
-- Returns how many nodes heard of it.

redis.call('SET', KEYS[1], '', 'PX', ARGV[3])
return redis.call('PUBLISH', ARGV[2], ARGV[1])
