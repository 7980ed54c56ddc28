-- Returns those of `channels` that are still granted to `subject`. A grant whose time has come is
-- removed moments later, so that there is hardly ever one to look for.

-- include: some_over
-- include: end_of
local function lasting(subject, channels)
  -- include: now
  if not some_over(now) then
    return channels
  end
  local found = {}
  for _, channel in ipairs(channels) do
    if (end_of(subject .. '\n' .. channel) or math.huge) > now then
      found[#found + 1] = channel
    end
  end
  return found
end
