-- Which of `channels` a subject may still listen to: by its `own` list, where those that are on it have
-- a value, or by one of `groups`.

local function left_with(channels, own, groups)
  local left = {}
  for _, channel in ipairs(channels) do
    left[channel] = own[channel]
  end
  for _, group in ipairs(groups) do
    for at = 1, #channels, 1000 do
      local last = math.min(at + 999, #channels)
      local found = redis.pcall('HMGET', '$GROUP' .. group, unpack(channels, at, last))
      for offset, since in ipairs(found.err and {} or found) do
        left[channels[at + offset - 1]] = since or left[channels[at + offset - 1]]
      end
    end
  end
  return left
end
