-- Notes of what `subject` had by `group`, where it was since the counter `joined` up to the counter `last`,
-- what its own list goes on to give it, or one of the groups `others`. Without any members nothing is
-- known any more of what the group had.

-- include: left_with
-- include: note_former
local function keep_what_is_left(subject, group, joined, others, last)
  local own, names = {}, redis.pcall('SMEMBERS', '$CHANNELS' .. subject)
  for _, channel in ipairs(names.err and {} or names) do
    own[channel] = true
  end
  if #others == 0 and next(own) == nil or not is_counter(joined) then
    return
  end
  local channels, times = {}, {}
  local function take(channel, from, upto)
    if tonumber(from) < tonumber(joined) then
      from = joined
    end
    channels[#channels + 1] = channel
    times[#times + 1] = {from, upto}
  end
  local former = redis.pcall('HGETALL', '$FORMEROF' .. group)
  for at = 1, former.err and 0 or #former, 2 do
    for from, upto in string.gmatch(former[at + 1], '(%d+)-(%d+)') do
      take(former[at], from, upto)
    end
  end
  local list = redis.pcall('HGETALL', '$GROUP' .. group)
  for at = 1, list.err and 0 or #list, 2 do
    take(list[at], is_counter(list[at + 1]) and list[at + 1] or '0', last)
  end
  local left = left_with(channels, own, others)
  for at, channel in ipairs(channels) do
    if left[channel] then
      note_former('$FORMER' .. subject, channel, times[at][1], times[at][2])
    end
  end
end
local function keep_group(subject, group, joined, others, last)
  keep_what_is_left(subject, group, joined, others, last)
  if redis.pcall('EXISTS', '$MEMBERS' .. group) == 0 then
    redis.pcall('DEL', '$FORMEROF' .. group)
  end
end
