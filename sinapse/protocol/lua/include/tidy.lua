-- Lets `key` live for as long as its last message, `retain` milliseconds, and removes what has
-- expired. Last ids are forgotten a `horizon` after their messages; of a message that is retained
-- for longer than half of that, the key says for another half that it was there.

local function tidy(key, retain)
  local life = retain
  if life > horizon / 2 then
    life = life + horizon / 2
  end
  if redis.call('PTTL', key) < life then
    redis.call('PEXPIRE', key, string.format('%.0f', life))
  end
  -- What has expired before the last message is removed now and then, at random.
  if time[2] % 8 == 0 then
    for _ = 1, 16 do
      local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
      if tonumber(string.match(oldest[1], '%-(%d+)')) > now then
        break
      end
      redis.call('XDEL', key, oldest[1])
    end
  end
end
