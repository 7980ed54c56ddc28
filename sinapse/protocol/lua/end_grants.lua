-- Ends grants whose time has come, and tells every node.
-- KEYS: none.
-- ARGV: how many at once.
-- Returns milliseconds until the next one ends, an hour at most: 0 if there are more by now, -1 if
-- there is none.

-- include: end_grants
end_grants(ARGV[1])
local first = redis.pcall('ZRANGE', '$ENDS', 0, 0, 'WITHSCORES')
if first.err and not string.find(first.err, 'WRONGTYPE', 1, true) then
  return first
elseif not first[2] then
  return -1
end
-- include: now
return math.ceil(math.max(0, math.min(first[2] - now, 3600000)))
