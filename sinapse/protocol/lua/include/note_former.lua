-- Notes in the hash `key` that there was a right to `channel` from the counter `start` up to the counter
-- `last`. Of a channel the latest 16 such times are kept, those that touch as one; and all of it for as
-- long as a message can be retained, and remembered. It only says where a replay may begin: if it cannot
-- be written, the right ends all the same.

-- include: is_counter
local function note_former(key, channel, start, last)
  start = start or '0'
  if not is_counter(start) or not is_counter(last) or tonumber(start) > tonumber(last) then
    return
  end
  local times, noted = {{tonumber(start), tonumber(last)}}, redis.pcall('HGET', key, channel)
  for from, upto in string.gmatch(type(noted) == 'string' and noted or '', '(%d+)-(%d+)') do
    times[#times + 1] = {tonumber(from), tonumber(upto)}
  end
  table.sort(times, function(a, b) return a[1] < b[1] end)
  local apart = {}
  for _, each in ipairs(times) do
    local before = apart[#apart]
    if before and each[1] <= before[2] then
      before[2] = math.max(before[2], each[2])
    else
      apart[#apart + 1] = each
    end
  end
  local shown = {}
  for at = math.max(1, #apart - 15), #apart do
    shown[#shown + 1] = string.format('%.0f-%.0f', unpack(apart[at]))
  end
  redis.pcall('HSET', key, channel, table.concat(shown, ' '))
  redis.pcall('PEXPIRE', key, 2764800000)
end
