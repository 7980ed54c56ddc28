-- Notes in the hash `key` rights that have ended: `entries` are channels, each with the counter from which
-- and the one up to which there was a right to it. Times that touch or overlap are kept as one, and of a
-- channel the latest 16; of at most `most` channels, those whose rights have ended last; all of it for as
-- long as a message can be retained, and remembered. It only says where a replay may begin: if it cannot
-- be written, the right ends all the same.

-- include: is_counter
local function times_of(text)
  local times = {}
  for from, upto in string.gmatch(text, '(%d+)-(%d+)') do
    if is_counter(from) and is_counter(upto) then
      times[#times + 1] = {tonumber(from), tonumber(upto)}
    end
  end
  return times
end
local function forget_former(key, most)
  local length = redis.pcall('HLEN', key)
  if type(length) ~= 'number' or length <= most then
    return
  end
  local noted, ends = redis.pcall('HGETALL', key), {}
  for at = 1, noted.err and 0 or #noted, 2 do
    local times = times_of(noted[at + 1])
    ends[#ends + 1] = {noted[at], times[1] and times[#times][2] or 0}
  end
  table.sort(ends, function(a, b) return a[2] > b[2] end)
  -- Some more than is needed, so that this is seldom.
  for at = math.ceil(most * 3 / 4) + 1, #ends do
    redis.pcall('HDEL', key, ends[at][1])
  end
end
local function note_former(key, entries, most)
  local count = 0
  for _, entry in ipairs(entries) do
    local channel, start, last = entry[1], entry[2] or '0', entry[3]
    local is_time = is_counter(start) and is_counter(last) and tonumber(start) <= tonumber(last)
    if is_time and count < most then
      count = count + 1
      local noted = redis.pcall('HGET', key, channel)
      local times = times_of(type(noted) == 'string' and noted or '')
      times[#times + 1] = {tonumber(start), tonumber(last)}
      table.sort(times, function(a, b) return a[1] < b[1] end)
      local apart, shown = {}, {}
      for _, each in ipairs(times) do
        local before = apart[#apart]
        if before and each[1] <= before[2] then
          before[2] = math.max(before[2], each[2])
        else
          apart[#apart + 1] = each
        end
      end
      for at = math.max(1, #apart - 15), #apart do
        shown[#shown + 1] = string.format('%.0f-%.0f', unpack(apart[at]))
      end
      redis.pcall('HSET', key, channel, table.concat(shown, ' '))
    end
  end
  if count > 0 then
    redis.pcall('PEXPIRE', key, 2764800000)
    forget_former(key, most)
  end
end
