-- Returns when a grant ends, a `member` of the ends; nil if it lasts. What somebody else has written
-- at that key is nobody's end; any other failure is one, when it is asked again.

local function end_of(member)
  local at = redis.pcall('ZSCORE', '$ENDS', member)
  if type(at) == 'table' and string.find(at.err, 'WRONGTYPE', 1, true) then
    return nil
  elseif type(at) == 'table' then
    at = redis.call('ZSCORE', '$ENDS', member)
  end
  return at and tonumber(at)
end
