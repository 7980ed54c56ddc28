-- Notes that channels were on the list of `group`, if that has members: `entries` are as in `note_former`.
-- Which member has another right to them is seen when that opens a stream. Of as many as a group may have
-- this is known, `most`.

-- include: note_former
local function keep_of_group(group, entries, most)
  if redis.pcall('EXISTS', '$MEMBERS' .. group) ~= 0 then
    note_former('$FORMEROF' .. group, entries, most)
  end
end
