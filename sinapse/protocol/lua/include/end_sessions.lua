-- Removes the sessions `ids`, whose tokens are `held`, from the sorted set KEYS[1] and everywhere else.

local function end_sessions(ids, held, prefix, tokens)
  for at, id in ipairs(ids) do
    redis.call('ZREM', KEYS[1], id)
    redis.call('DEL', prefix .. id, tokens .. held[at])
  end
end
