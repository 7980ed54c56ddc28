-- Retains a message under an id of its own, and publishes it.
-- KEYS: retention, epochs, last ids, checkpoints, retained messages of the channel; then the key of
-- the message id, if the caller gave one; then replay, if that is given.
-- ARGV: channel, payload without the id, milliseconds to retain, messages to retain, PUB/SUB
-- channel of the nodes, milliseconds to remember last ids; then milliseconds to remember the
-- message id, empty if there is none; then how many of the last messages a new stream gets, `all`,
-- or 0 for none; what was said of that before stays if nothing is.
-- Returns how many nodes heard the message, and its id; or -1, and the id of the message that was
-- published before under the message id, empty if that was not retained.

local channel, body, life, most, nodes, horizon, remember, replay = unpack(ARGV)
local key, sent = KEYS[5], (remember or '') ~= '' and KEYS[6]
life = tonumber(life)
if sent and redis.call('EXISTS', sent) == 1 then
  -- include: sent_before
  return sent_before(sent)
end
-- Its type is seen before anything is written.
local former = replay and redis.call('HGET', KEYS[#KEYS], channel)
-- include: epoch
-- include: now
if string.sub(channel, 1, #'$INBOXES') == '$INBOXES' then
  -- include: open_inbox
  local refused = open_inbox(channel, key)
  if refused then
    return refused
  end
end
-- include: retain_message
local counter, payload = retain_message(channel, key, body, life, most)
if not counter then
  return payload
end
local id = epoch .. '-' .. string.format('%.0f', counter)
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
return {redis.call('PUBLISH', '$PREFIX' .. channel, payload), id}
