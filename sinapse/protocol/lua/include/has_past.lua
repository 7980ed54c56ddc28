-- `has_past`: 1 if new streams get a past of one of `channels`, else 0. KEYS[3] says of which channels
-- they do; it is not there at all where nobody uses that.

local function has_past(channels)
  if redis.call('EXISTS', KEYS[3]) == 0 then
    return 0
  end
  for at = 1, #channels, 1000 do
    local found = redis.pcall('HMGET', KEYS[3], unpack(channels, at, math.min(at + 999, #channels)))
    for _, count in ipairs(found.err and {} or found) do
      if count then
        return 1
      end
    end
  end
  return 0
end
