-- Returns when the first of all grants ends that end; nil if there is none. What somebody else has
-- written at that key is nobody's end; any other failure is one, when it is asked again.

local function first_end()
  local first = redis.pcall('ZRANGE', '$ENDS', 0, 0, 'WITHSCORES')
  if first.err and not string.find(first.err, 'WRONGTYPE', 1, true) then
    first = redis.call('ZRANGE', '$ENDS', 0, 0, 'WITHSCORES')
  end
  return first[2]
end
