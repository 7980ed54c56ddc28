-- Whether the time of a grant, a `member` of the ends, has come at the time `now`.

local function is_over(member, now)
  local at = redis.pcall('ZSCORE', '$ENDS', member)
  return type(at) == 'string' and tonumber(at) <= now
end
