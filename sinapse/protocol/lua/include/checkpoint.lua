-- Notes when `counter` was, and forgets the last ids of channels that are older than `horizon`.
-- KEYS: retention, epochs, last ids, checkpoints.

local function checkpoint(counter)
  if counter % 1024 == 0 then
    redis.call('RPUSH', KEYS[4], string.format('%.0f %.0f', counter, now))
    for _ = 1, 2 do
      local oldest = redis.call('LINDEX', KEYS[4], 0)
      local passed, at = string.match(oldest or '', '(%d+) (%d+)')
      if passed and tonumber(at) < now - horizon then
        redis.call('LPOP', KEYS[4])
        redis.call('HSET', KEYS[1], 'floor', passed)
        redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', passed)
      end
    end
  end
end
