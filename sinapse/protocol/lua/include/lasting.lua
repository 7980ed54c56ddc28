-- Returns those of `channels` that are still granted to `subject`. A grant whose time has come is
-- removed moments later, so there is hardly ever one: if the first of all ends is still to come, none
-- is looked at.

-- include: is_over
local function lasting(subject, channels)
  local first = redis.pcall('ZRANGE', '$ENDS', 0, 0, 'WITHSCORES')[2]
  if not first then
    return channels
  end
  -- include: now
  if tonumber(first) > now then
    return channels
  end
  local found = {}
  for _, channel in ipairs(channels) do
    if not is_over(subject .. '\n' .. channel, now) then
      found[#found + 1] = channel
    end
  end
  return found
end
