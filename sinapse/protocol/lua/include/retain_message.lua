-- Retains a message of `channel` in `key` for `life` milliseconds, under the next id: `body` is its
-- payload without that, `most` how many are kept. With `dated`, in milliseconds, it does not expire
-- before its key unless that is over. KEYS: retention, epochs, last ids, checkpoints.
-- `epoch`, `now` and `horizon` are there already. Returns its counter and its payload; or nil, and an
-- error: then nothing is retained.

-- include: floor
-- include: store
-- include: tidy
-- include: checkpoint
local function retain_message(channel, key, body, life, most, dated)
  local counter = redis.call('HINCRBY', KEYS[1], 'counter', 1)
  local before, floor = redis.call('ZSCORE', KEYS[3], channel), '0'
  if not before then
    note_floor(counter - 1)
    floor = redis.call('HGET', KEYS[1], 'floor') or '0'
  end
  local digits, expiry = string.format('%.0f', counter), string.format('%.0f', now + (dated or life))
  local payload, failure = store(key, body, epoch, digits, expiry, before, floor, most)
  if failure then
    return nil, failure
  end
  redis.call('ZADD', KEYS[3], digits, channel)
  tidy(key, life)
  checkpoint(counter)
  return counter, payload
end
