-- What is returned in place of a message that was published before under its message id, whose key
-- is `sent`: -1, and the id that it got, empty if it was not retained.

local function sent_before(sent)
  local id = redis.pcall('GET', sent)
  return {-1, type(id) == 'string' and id or ''}
end
