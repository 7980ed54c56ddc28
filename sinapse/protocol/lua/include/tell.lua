-- Retains a message of a run, and publishes it: `body` is its payload without the id, `channel` the
-- one of the run, of which all is kept for `retain` milliseconds, and for new streams. KEYS:
-- retention, epochs, last ids, checkpoints, replay. `epoch`, `now`, `horizon` and `most` are there
-- already. Returns an error if nothing was retained.

-- include: floor
-- include: store
-- include: tidy
-- include: checkpoint
local function tell(channel, key, body, retain)
  local counter = redis.call('HINCRBY', KEYS[1], 'counter', 1)
  local before = redis.call('ZSCORE', KEYS[3], channel)
  if not before then
    note_floor(counter - 1)
    before = redis.call('HGET', KEYS[1], 'floor') or '0'
  end
  local digits, expiry = string.format('%.0f', counter), string.format('%.0f', now + retain)
  local payload, failure = store(key, body, epoch, digits, expiry, before, most)
  if failure then
    return failure
  end
  redis.call('ZADD', KEYS[3], digits, channel)
  redis.call('HSET', KEYS[5], channel, 'all')
  tidy(key, retain)
  checkpoint(counter)
  redis.call('PUBLISH', channel, payload)
end
