-- Reads what is retained of channels, each after a counter of its own.
-- KEYS: retention, last ids, then the retained messages of each channel.
-- ARGV: the last counter to read, or empty for the current one; messages and bytes that are enough
-- of a channel, and of all; then the counter to read after for each channel; then the channels.
-- Returns the last counter, then for each channel: a counter such that messages up to there may be
-- gone and none after it is, 1 if there is more to read or 0, counters and payloads in turn, and
-- what Redis said if these could not be read.

-- include: position
-- include: last_ids
local upto = ARGV[1] ~= '' and ARGV[1] or counter
local channels = #KEYS - 2
local scores = last_ids(6 + channels)
local active = 0
for index = 1, channels do
  local last = scores[index]
  if last and tonumber(last) <= tonumber(ARGV[5 + index]) then
    scores[index] = nil
  else
    active = active + 1
  end
end
local most = math.max(1, math.min(ARGV[2], math.floor(ARGV[4] / active)))
local size = math.max(1, math.min(ARGV[3], math.floor(ARGV[5] / active)))
-- include: now
local answer = {upto}
for index = 1, channels do
  local key, last, start = KEYS[2 + index], scores[index], ARGV[5 + index] + 1
  local entries, bytes, more, page = {}, 0, 0
  if last == nil then
    answer[#answer + 1] = {'0', 0, entries}
  else
    local oldest = redis.pcall('XRANGE', key, '-', '+', 'COUNT', 1)
    if oldest.err and not string.find(oldest.err, 'WRONGTYPE', 1, true) then
      return oldest
    elseif oldest.err then
      answer[#answer + 1] = {upto, 0, entries, oldest.err}
    else
      local before = oldest[1] and oldest[1][2][4]
      local gone = is_counter(before) and before or is_counter(last) and last or floor
      repeat
        page = redis.call('XRANGE', key, string.format('%.0f', start), upto, 'COUNT', 16)
        for _, entry in ipairs(page) do
          if #entries >= 2 * most or bytes >= size then
            more = 1
            break
          end
          local digits, expiry = string.match(entry[1], '(%d+)%-(%d+)')
          if tonumber(expiry) > now then
            entries[#entries + 1] = digits
            entries[#entries + 1] = entry[2][2]
            bytes = bytes + #entry[2][2]
          elseif tonumber(digits) > tonumber(gone) then
            gone = digits
          end
          start = digits + 1
        end
      until more == 1 or #page < 16
      answer[#answer + 1] = {gone, more, entries}
    end
  end
end
return answer
