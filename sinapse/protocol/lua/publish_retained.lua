-- Retains a message under an id of its own, and publishes it.
-- KEYS: retention, epochs, last ids, checkpoints, retained messages of the channel; then the key of
-- the message id, if the caller gave one; then replay, if that is given.
-- ARGV: channel, payload without the id, milliseconds to retain, messages to retain, PUB/SUB
-- channel of the nodes, milliseconds to remember last ids; then milliseconds to remember the
-- message id, empty if there is none; then how many of the last messages a new stream gets, `all`,
-- or 0 for none; what was said of that before stays if nothing is.
-- Returns how many nodes heard the message, and its id; or -1, and the id of the message that was
-- published before under the message id, empty if that was not retained.

local channel, body, retain, most, nodes, horizon, remember, replay = unpack(ARGV)
local key, sent = KEYS[5], (remember or '') ~= '' and KEYS[6]
retain = tonumber(retain)
if sent and redis.call('EXISTS', sent) == 1 then
  -- include: sent_before
  return sent_before(sent)
end
-- Its type is seen before anything is written.
local former = replay and redis.call('HGET', KEYS[#KEYS], channel)
-- include: epoch
local counter = redis.call('HINCRBY', KEYS[1], 'counter', 1)
local before, floor = redis.call('ZSCORE', KEYS[3], channel), '0'
if not before then
  -- include: floor
  note_floor(counter - 1)
  floor = redis.call('HGET', KEYS[1], 'floor') or '0'
end
-- include: now
-- include: store
-- include: tidy
-- include: checkpoint
local digits, expiry = string.format('%.0f', counter), string.format('%.0f', now + retain)
local payload, failure = store(key, body, epoch, digits, expiry, before, floor, most)
if failure then
  return failure
end
redis.call('ZADD', KEYS[3], digits, channel)
tidy(key, retain)
checkpoint(counter)
local id = epoch .. '-' .. digits
if sent then
  redis.call('SET', sent, id, 'PX', remember)
end
if replay then
  -- include: note_replay
  note_replay(KEYS[#KEYS], channel, key, former, replay)
end
if redis.call('EXISTS', '$ENDS') == 1 then
  -- include: end_grants
  end_grants(100, now, string.format('%.0f', counter - 1))
end
return {redis.call('PUBLISH', channel, payload), id}
