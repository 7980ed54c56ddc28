-- Whether `text` is a counter as it is written here. What else stands in its place somebody else has
-- written, and nothing can be concluded from it.

local function is_counter(text)
  return text and #text <= 14 and (text == '0' or string.find(text, '^[1-9]%d*$') ~= nil)
end
