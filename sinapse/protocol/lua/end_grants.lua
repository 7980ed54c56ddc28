-- Ends grants whose time has come, and tells every node.
-- KEYS: none.
-- ARGV: how many at once.
-- Returns milliseconds until the next one ends, an hour at most: 0 if there are more by now, -1 if
-- there is none.

-- include: now
-- include: end_grants
end_grants(ARGV[1], now)
local first = redis.pcall('ZRANGE', '$ENDS', 0, 0, 'WITHSCORES')[2]
return first and math.ceil(math.max(0, math.min(first - now, 3600000))) or -1
