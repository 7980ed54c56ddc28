-- Says how many nodes listen to a channel.
-- KEYS: presence.
-- ARGV: channel.
-- Returns that number, and 1 if any node tells who is online, else 0. Where none has, a user of Redis
-- need not be allowed to read that.

-- include: now
local nodes = redis.call('PUBSUB', 'NUMSUB', '$PREFIX' .. ARGV[1])[2]
local told = {}
if redis.call('EXISTS', KEYS[1]) == 1 then
  told = redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf', 'LIMIT', 0, 1)
end
return {nodes, #told}
