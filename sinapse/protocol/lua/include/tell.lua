-- Retains a message of a run, and publishes it: `body` is its payload without the id, and the run
-- `goes_on` after it or is over. New streams get all of the channel: its messages expire with their key,
-- all at once, `life` milliseconds after the end, or 30 days after they were sent. It may be heard for
-- as long by `subject`, if that still may. KEYS: retention, epochs, last ids,
-- checkpoints, replay. `epoch`, `now`, `horizon`, `most` and `lease` are there already. Returns an
-- error if nothing was retained.

-- include: retain_message
-- include: keep_messages
-- include: note_replay
-- include: end_grants
-- include: hold_grant
local function tell(subject, channel, key, body, life, goes_on)
  local former = redis.call('HGET', KEYS[5], channel)
  local counter, payload = retain_message(channel, key, body, life, most, 2592000000)
  if not counter then
    return payload
  end
  keep_messages(key, life, lease, goes_on)
  note_replay(KEYS[5], channel, key, former, 'all')
  end_grants(100, now, string.format('%.0f', counter - 1))
  hold_grant(subject, channel, life, lease, goes_on)
  redis.call('PUBLISH', '$PREFIX' .. channel, payload)
end
