-- Notes that `channel` was on the list of `group` from the counter `start` up to the counter `last`, if the
-- group has members. Which of these has another right to it is seen when that opens a stream. Of as many
-- as a group may have this is known, `most`.

-- include: note_former
local function keep_of_group(group, channel, start, last, most)
  if redis.pcall('EXISTS', '$MEMBERS' .. group) == 0 then
    return
  end
  local key = '$FORMEROF' .. group
  note_former(key, channel, start, last)
  local length = redis.pcall('HLEN', key)
  if type(length) == 'number' and length > most then
    redis.pcall('HDEL', key, redis.pcall('HRANDFIELD', key))
  end
end
