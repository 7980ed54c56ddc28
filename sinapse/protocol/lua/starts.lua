-- Says where the past begins that new streams get of channels.
-- KEYS: replay, then the retained messages of each channel.
-- ARGV: the channels, then for each the counter up to which messages are past.
-- Returns for each channel a counter such that its past is what is retained after it, or false if it
-- has none.

-- include: now
local function start_of(key, count, upto)
  if count == 'all' then
    return '0'
  end
  local before, left = upto, tonumber(count)
  while left > 0 do
    local page = redis.call('XREVRANGE', key, before, '-', 'COUNT', math.min(left, 100))
    for _, entry in ipairs(page) do
      local digits, expiry = string.match(entry[1], '(%d+)%-(%d+)')
      if tonumber(expiry) > now then
        left = left - 1
        if left == 0 then
          return string.format('%.0f', digits - 1)
        end
      end
    end
    if #page == 0 then
      break
    end
    before = '(' .. page[#page][1]
  end
  return '0'
end
local starts = {}
local channels = #KEYS - 1
for from = 1, channels, 1000 do
  local last = math.min(from + 999, channels)
  for offset, count in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV, from, last))) do
    local at = from + offset - 1
    local key = KEYS[1 + at]
    local is_known = count == 'all' or count and string.find(count, '^[1-9]%d?%d?%d?%d?%d?%d?$')
    local has_past = is_known and redis.call('TYPE', key).ok == 'stream'
    starts[#starts + 1] = has_past and start_of(key, count, ARGV[channels + at]) or false
  end
end
return starts
