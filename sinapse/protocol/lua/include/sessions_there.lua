-- Returns the ids of the sessions in the sorted set KEYS[1], the oldest first, and their tokens; those
-- that have expired are removed from it.

local function sessions_there(prefix)
  local ids, tokens = {}, {}
  for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    local token = redis.call('HGET', prefix .. id, 'token')
    if token then
      ids[#ids + 1], tokens[#tokens + 1] = id, token
    else
      redis.call('ZREM', KEYS[1], id)
    end
  end
  return ids, tokens
end
