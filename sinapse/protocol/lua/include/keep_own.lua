-- Notes of `channels` that have been on the own list of `subject` since the counters `starts`, and end at
-- the counter `last`, those that a group of the subject goes on to give it.

-- include: left_with
-- include: note_former
local function keep_own(subject, channels, starts, last)
  local groups = redis.pcall('HKEYS', '$GROUPS' .. subject)
  if groups.err or #groups == 0 then
    return
  end
  local left, entries = left_with(channels, {}, groups), {}
  for at, channel in ipairs(channels) do
    if left[channel] then
      entries[#entries + 1] = {channel, starts[at], last}
    end
  end
  note_former('$FORMER' .. subject, entries, 256)
end
