-- Notes when `counter` was, and forgets the last ids of channels that are older than `horizon`.
-- KEYS: retention, epochs, last ids, checkpoints. These are kept anew if somebody else has written
-- there: they are no more than times, and the message is retained by now.

local function checkpoint(counter)
  if counter % 1024 == 0 then
    local noted = string.format('%.0f %.0f', counter, now)
    local length = redis.pcall('RPUSH', KEYS[4], noted)
    if type(length) == 'table' then
      if string.find(length.err, 'WRONGTYPE', 1, true) then
        redis.call('DEL', KEYS[4])
      end
      redis.call('RPUSH', KEYS[4], noted)
    end
    for _ = 1, 2 do
      local oldest = redis.call('LINDEX', KEYS[4], 0)
      local passed, at = string.match(oldest or '', '^(%d+) (%d+)$')
      if oldest and not passed then
        redis.call('LPOP', KEYS[4])
      elseif passed and tonumber(at) < now - horizon then
        redis.call('LPOP', KEYS[4])
        redis.call('HSET', KEYS[1], 'floor', passed)
        redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', passed)
      end
    end
  end
end
