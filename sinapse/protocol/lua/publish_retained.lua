-- Retains a message under an id of its own, and publishes it.
-- KEYS: retention, epochs, last ids, checkpoints, retained messages of the channel; then the key of
-- the message id, if the caller gave one.
-- ARGV: channel, payload without the id, milliseconds to retain, messages to retain, PUB/SUB
-- channel of the nodes, milliseconds to remember last ids; then milliseconds to remember the
-- message id.
-- Returns how many nodes heard the message, -1 if it was published before.

local channel, body, retain, most, nodes, horizon = unpack(ARGV)
local key = KEYS[5]
retain = tonumber(retain)
if KEYS[6] and redis.call('EXISTS', KEYS[6]) == 1 then
  return -1
end
-- include: epoch
local counter = redis.call('HINCRBY', KEYS[1], 'counter', 1)
local before = redis.call('ZSCORE', KEYS[3], channel)
if not before then
  -- include: floor
  note_floor(counter - 1)
  before = redis.call('HGET', KEYS[1], 'floor') or '0'
end
-- include: now
-- include: store
-- include: tidy
-- include: checkpoint
local digits, expiry = string.format('%.0f', counter), string.format('%.0f', now + retain)
local payload, failure = store(key, body, epoch, digits, expiry, before, most)
if failure then
  return failure
end
redis.call('ZADD', KEYS[3], digits, channel)
tidy(key, retain)
checkpoint(counter)
if KEYS[6] then
  redis.call('SET', KEYS[6], '', 'PX', ARGV[7])
end
return redis.call('PUBLISH', channel, payload)
