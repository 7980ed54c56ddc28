-- Retains a message of a run for `retain` milliseconds, and publishes it: `body` is its payload
-- without the id, and the run `goes_on` after it or is over. New streams get all of the channel. It
-- may be heard for as long by `subject`, if that still may. KEYS: retention, epochs, last ids,
-- checkpoints, replay. `epoch`, `now`, `horizon`, `most` and `lease` are there already. Returns an
-- error if nothing was retained.

-- include: floor
-- include: store
-- include: tidy
-- include: checkpoint
-- include: note_replay
-- include: end_grants
-- include: hold_grant
local function tell(subject, channel, key, body, retain, goes_on)
  local former = redis.call('HGET', KEYS[5], channel)
  local counter = redis.call('HINCRBY', KEYS[1], 'counter', 1)
  local before, floor = redis.call('ZSCORE', KEYS[3], channel)
  if not before then
    note_floor(counter - 1)
    floor = redis.call('HGET', KEYS[1], 'floor') or '0'
  end
  local digits, expiry = string.format('%.0f', counter), string.format('%.0f', now + retain)
  local payload, failure = store(key, body, epoch, digits, expiry, before, floor, most)
  if failure then
    return failure
  end
  redis.call('ZADD', KEYS[3], digits, channel)
  note_replay(KEYS[5], channel, key, former, 'all')
  tidy(key, retain)
  checkpoint(counter)
  end_grants(100, now, string.format('%.0f', counter - 1))
  hold_grant(subject, channel, retain, lease, goes_on)
  redis.call('PUBLISH', channel, payload)
end
