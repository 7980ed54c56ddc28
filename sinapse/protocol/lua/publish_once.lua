-- Publishes a message that is not retained, unless it was published before.
-- KEYS: the key of the message id.
-- ARGV: channel, payload, milliseconds to remember the message id.
-- Returns how many nodes heard the message; or, in a list, -1 and the id of the message that was
-- published before, empty if that was not retained.

if not redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[3]) then
  -- include: sent_before
  return sent_before(KEYS[1])
end
if redis.call('EXISTS', '$ENDS') == 1 then
  -- include: now
  -- include: end_grants
  end_grants(100, now)
end
return redis.call('PUBLISH', '$PREFIX' .. ARGV[1], ARGV[2])
