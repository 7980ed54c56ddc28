-- Returns the last ids, of the set KEYS[2], of the channels in ARGV from the number `first` on;
-- false for one that has none.

local function last_ids(first)
  local scores = {}
  for at = first, #ARGV, 1000 do
    local some = redis.call('ZMSCORE', KEYS[2], unpack(ARGV, at, math.min(at + 999, #ARGV)))
    for _, score in ipairs(some) do
      scores[#scores + 1] = score
    end
  end
  return scores
end
