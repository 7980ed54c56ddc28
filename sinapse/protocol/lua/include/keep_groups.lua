-- Notes of what `subject` had by groups, of which it was a member up to the counter `last`, what its own
-- list goes on to give it, or one of the groups `others`. `joined` are the groups, each followed by the
-- counter since when. Of a group without members nothing is known any more.

-- include: left_with
-- include: note_former
local function had_by(group, since, last, had)
  local former = redis.pcall('HGETALL', '$FORMEROF' .. group)
  for at = 1, former.err and 0 or #former, 2 do
    for from, upto in string.gmatch(former[at + 1], '(%d+)-(%d+)') do
      had[#had + 1] = {former[at], tonumber(from) < tonumber(since) and since or from, upto}
    end
  end
  local list = redis.pcall('HGETALL', '$GROUP' .. group)
  for at = 1, list.err and 0 or #list, 2 do
    local from = is_counter(list[at + 1]) and list[at + 1] or '0'
    had[#had + 1] = {list[at], tonumber(from) < tonumber(since) and since or from, last}
  end
end
local function keep_groups(subject, joined, others, last)
  local own, names, had = {}, redis.pcall('SMEMBERS', '$CHANNELS' .. subject), {}
  for _, channel in ipairs(names.err and {} or names) do
    own[channel] = true
  end
  if #others > 0 or next(own) then
    for at = 1, #joined, 2 do
      if is_counter(joined[at + 1]) then
        had_by(joined[at], joined[at + 1], last, had)
      end
    end
  end
  local channels, entries = {}, {}
  for at, each in ipairs(had) do
    channels[at] = each[1]
  end
  local left = left_with(channels, own, others)
  for _, each in ipairs(had) do
    if left[each[1]] then
      entries[#entries + 1] = each
    end
  end
  note_former('$FORMER' .. subject, entries, 256)
  for at = 1, #joined, 2 do
    if redis.pcall('EXISTS', '$MEMBERS' .. joined[at]) == 0 then
      redis.pcall('DEL', '$FORMEROF' .. joined[at])
    end
  end
end
