-- Ends grants whose time has come, and tells every node.
-- KEYS: none.
-- ARGV: how many at once.
-- Returns milliseconds until the next one ends, an hour at most: 0 if there are more by now, -1 if
-- there is none.

-- include: end_grants
end_grants(ARGV[1])
local first = first_end()
if not first then
  return -1
end
-- include: now
return math.ceil(math.max(0, math.min(first - now, 3600000)))
