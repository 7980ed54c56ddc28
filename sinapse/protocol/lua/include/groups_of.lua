-- The groups of `subject`: of each its name, the counter since when, its channels, each with the counter
-- at which it was added, and those that it had, with the times; or nothing for those that are among
-- `kept`, each between line feeds; whether a new stream gets a past of any of `channels` or of these; and
-- the channels to which a right of the subject has ended beside another one, with the times. What stands
-- at the key of a group and is not Sinapse's gives nobody anything. KEYS[3] says which channels have a
-- past.

-- include: has_past
-- include: fields
local function groups_of(subject, channels, kept)
  local found, past = {}, has_past(channels)
  local joined = redis.call('HGETALL', '$GROUPS' .. subject)
  local may_have = past == 0 and #joined > 0 and redis.call('EXISTS', KEYS[3]) == 1
  for at = 1, #joined, 2 do
    local is_kept = string.find(kept, '\n' .. joined[at] .. '\n', 1, true)
    local list, had = {}, false
    if may_have or not is_kept then
      list = redis.pcall('HGETALL', '$GROUP' .. joined[at])
      list = list.err and {} or list
    end
    if not is_kept then
      had = redis.pcall('HGETALL', '$FORMEROF' .. joined[at])
      had = had.err and {} or had
    end
    if may_have and past == 0 then
      past = has_past(fields(list))
    end
    found[#found + 1] = {joined[at], joined[at + 1], not is_kept and list, had}
  end
  local former = redis.pcall('HGETALL', '$FORMER' .. subject)
  return found, past, former.err and {} or former
end
