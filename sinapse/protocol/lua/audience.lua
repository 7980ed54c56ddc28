-- Says how many nodes listen to a channel.
-- KEYS: presence.
-- ARGV: channel.
-- Returns that number, and 1 if any node tells who is online, else 0.

-- include: now
local nodes = redis.call('PUBSUB', 'NUMSUB', '$PREFIX' .. ARGV[1])[2]
local told = redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf', 'LIMIT', 0, 1)
return {nodes, #told}
