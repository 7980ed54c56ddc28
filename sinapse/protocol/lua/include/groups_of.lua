-- The groups of `subject`: of each its name, the counter since when, and its channels, each with the
-- counter at which it was added; and whether a new stream gets a past of any of `channels` or of
-- these. What stands at the key of a group and is not Sinapse's gives nobody anything.

-- include: has_past
-- include: fields
local function groups_of(subject, channels)
  local found, past = {}, has_past(channels)
  local joined = redis.call('HGETALL', '$GROUPS' .. subject)
  for at = 1, #joined, 2 do
    local list = redis.pcall('HGETALL', '$GROUP' .. joined[at])
    list = list.err and {} or list
    found[#found + 1] = {joined[at], joined[at + 1], list}
    past = past == 1 and 1 or has_past(fields(list))
  end
  return found, past
end
