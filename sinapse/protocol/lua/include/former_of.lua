-- The rights of `subject` that have ended, to channels to which it has another one: by its own list, which
-- is `channels`, or by its groups, which are `joined`, each followed by the counter since when. Of each
-- the channel, a counter before which it was not there in any case, and the times when it was.

-- include: left_with
local function former_of(subject, channels, joined)
  local found, names, groups, own = {}, {}, {}, {}
  local function take(key, since)
    local noted = redis.pcall('HGETALL', key)
    for at = 1, noted.err and 0 or #noted, 2 do
      found[#found + 1] = {noted[at], since, noted[at + 1]}
      names[#names + 1] = noted[at]
    end
  end
  take('$FORMER' .. subject, '0')
  for at = 1, #joined, 2 do
    groups[#groups + 1] = joined[at]
    take('$FORMEROF' .. joined[at], joined[at + 1])
  end
  if #found == 0 then
    return found
  end
  for _, channel in ipairs(channels) do
    own[channel] = true
  end
  local left, kept = left_with(names, own, groups), {}
  for _, each in ipairs(found) do
    if left[each[1]] then
      kept[#kept + 1] = each
    end
  end
  return kept
end
