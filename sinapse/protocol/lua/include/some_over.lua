-- Whether the time of any grant has come at the time `now`. What somebody else has written at the key
-- of the ends is nobody's end; any other failure is one, when it is asked again.

local function some_over(now)
  local count = redis.pcall('ZCOUNT', '$ENDS', '-inf', now)
  if type(count) == 'table' and string.find(count.err, 'WRONGTYPE', 1, true) then
    return false
  elseif type(count) == 'table' then
    count = redis.call('ZCOUNT', '$ENDS', '-inf', now)
  end
  return count > 0
end
