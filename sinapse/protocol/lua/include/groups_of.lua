-- The groups of `subject`: of each its name, the counter since when, and its channels, each with the
-- counter at which it was added, or nothing for those that are among `kept`, each between line feeds;
-- whether a new stream gets a past of any of `channels` or of these; and the rights that have ended, as
-- `former_of` has them. What stands at the key of a group and is not Sinapse's gives nobody anything.
-- KEYS[3] says which channels have a past.

-- include: has_past
-- include: fields
-- include: former_of
local function groups_of(subject, channels, kept)
  local found, past = {}, has_past(channels)
  local joined = redis.call('HGETALL', '$GROUPS' .. subject)
  local may_have = past == 0 and #joined > 0 and redis.call('EXISTS', KEYS[3]) == 1
  for at = 1, #joined, 2 do
    local is_kept = string.find(kept, '\n' .. joined[at] .. '\n', 1, true)
    local list = {}
    if may_have or not is_kept then
      list = redis.pcall('HGETALL', '$GROUP' .. joined[at])
      list = list.err and {} or list
    end
    if may_have and past == 0 then
      past = has_past(fields(list))
    end
    found[#found + 1] = {joined[at], joined[at + 1], not is_kept and list}
  end
  return found, past, former_of(subject, channels, joined)
end
