-- `epoch`, `counter`, and `floor`, up to which last ids are forgotten, of this instant. KEYS:
-- retention, last ids.

-- include: is_counter
local epoch, counter, floor = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'counter', 'floor'))
epoch, counter, floor = epoch or '0', counter or '0', floor or '0'
if not is_counter(floor) or redis.call('EXISTS', KEYS[2]) == 0 then
  floor = counter
end
