-- Reads a page of what is retained of a channel, for a publisher.
-- KEYS: retention, last ids, epochs, retained messages of the channel.
-- ARGV: channel; epoch and counter of the id to read after, empty and 0 to read all; messages and
-- bytes that are enough.
-- Returns false if that id was never given here, or is lost; else the epoch; 1 if a message after
-- that id, or any message before those that are retained, is known to be gone, or 0; 1 if there is
-- more to read or 0; then counters and payloads in turn, oldest first.

-- include: position
local channel, since, after, most, size = unpack(ARGV)
after, most, size = tonumber(after), tonumber(most), tonumber(size)
if since ~= '' then
  local reached = since == epoch and counter or redis.call('HGET', KEYS[3], since)
  if not is_counter(reached) or tonumber(reached) < after then
    return false
  end
end
local last = redis.call('ZSCORE', KEYS[2], channel)
if last and tonumber(last) <= after then
  return {epoch, 0, 0, {}}
end
-- include: now
local link, gone = last and 'b' or 'f', last or floor
local oldest = redis.call('XRANGE', KEYS[4], '-', '+', 'COUNT', 1)[1]
if oldest then
  link, gone = oldest[2][3], oldest[2][4]
end
local missing = since == '' and link == 'b'
if since ~= '' then
  missing = not is_counter(gone) or tonumber(gone) > after
end
local answer, bytes, more, start, page = {}, 0, 0, after + 1
repeat
  page = redis.call('XRANGE', KEYS[4], string.format('%.0f', start), '+', 'COUNT', 16)
  for _, entry in ipairs(page) do
    local digits, expiry = string.match(entry[1], '(%d+)%-(%d+)')
    if tonumber(expiry) <= now then
      missing = true
    elseif #answer == 2 * most or bytes >= size then
      more = 1
      break
    else
      answer[#answer + 1] = digits
      answer[#answer + 1] = entry[2][2]
      bytes = bytes + #entry[2][2]
    end
    start = digits + 1
  end
until more == 1 or #page < 16
return {epoch, missing and 1 or 0, more, answer}
