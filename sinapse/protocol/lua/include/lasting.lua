-- Returns those of `channels` that are still granted to `subject`. A grant whose time has come is
-- removed moments later, so there is hardly ever one: if the first of all ends is still to come, none
-- is looked at.

-- include: first_end
-- include: end_of
local function lasting(subject, channels)
  local first = first_end()
  if not first then
    return channels
  end
  -- include: now
  if tonumber(first) > now then
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
