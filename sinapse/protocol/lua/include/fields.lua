-- The names of fields in what HGETALL returns.

local function fields(pairs)
  local names = {}
  for at = 1, #pairs, 2 do
    names[#names + 1] = pairs[at]
  end
  return names
end
