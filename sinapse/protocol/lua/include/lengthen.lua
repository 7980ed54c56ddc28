-- Lets `key` live for `life` milliseconds at least, or for ever if that is nil.

local function lengthen(key, life)
  local left = redis.call('PTTL', key)
  if not life then
    redis.call('PERSIST', key)
  elseif left >= 0 and left < life then
    redis.call('PEXPIRE', key, string.format('%.0f', life))
  end
end
