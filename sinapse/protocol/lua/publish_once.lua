-- Publishes a message that is not retained, unless it was published before.
-- KEYS: the key of the message id.
-- ARGV: channel, payload, milliseconds to remember the message id.
-- Returns how many nodes heard the message, -1 if it was published before.

if not redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[3]) then
  return -1
end
return redis.call('PUBLISH', ARGV[1], ARGV[2])
