-- Tells a Redis of a token that was revoked in another one: it may have a copy. A node that was cut off
-- from all of them learns it from the first that is back.
-- KEYS: the key that says that a token was revoked, the token; its session, if it is of one.
-- ARGV: the token, control channel, milliseconds to remember it.
-- Returns how many nodes heard of it.

redis.call('SET', KEYS[1], '', 'PX', ARGV[3])
redis.call('DEL', unpack(KEYS, 2))
return redis.call('PUBLISH', ARGV[2], ARGV[1])
