-- Where there are no last ids at all, in KEYS[3], they are lost, or there never was one: nothing is
-- known of what was published up to `counter`. KEYS[1] is retention.

local function note_floor(counter)
  if redis.call('EXISTS', KEYS[3]) == 0 then
    redis.call('HSET', KEYS[1], 'floor', string.format('%.0f', counter))
  end
end
