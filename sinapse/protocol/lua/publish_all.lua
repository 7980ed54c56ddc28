-- Several messages, in their order, each as publish_retained does one.
-- KEYS: retention, epochs, last ids, checkpoints; then replay, if any message says that; then for
-- each message the retained messages of its channel, and the key of its message id if it has one.
-- ARGV: PUB/SUB channel of the nodes, milliseconds to remember last ids, how many messages; then
-- for each message its channel, payload without the id, milliseconds to retain, messages to retain,
-- and milliseconds to remember the message id, empty if it has none; then for each that says how
-- much of its channel a new stream gets its number, from 1 on, and that: how many of the last
-- messages, `all`, or 0 for none.
-- Returns the epoch, the counter before those of the messages, which go up by one from message to
-- message; then for each message how many nodes heard it; or, in a list, -1 and the id of the
-- message that was published before under its message id, empty if that was not retained; or the
-- text of an error if it could not be retained, or was retained and may not be published. All are
-- retained before the first one is published.

local nodes, horizon, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local floor
local formers, replays = {}, #ARGV > 5 * count + 3 and KEYS[5]
-- Its type is seen before anything is written.
for at = 5 * count + 4, #ARGV, 2 do
  local channel = ARGV[5 * ARGV[at] - 1]
  formers[channel] = redis.call('HGET', replays, channel)
end
-- include: epoch
-- include: now
-- include: sent_before
-- include: store
-- include: tidy
-- include: checkpoint
-- include: note_replay
-- include: open_inbox
local places, refused, at = {}, {}, replays and 5 or 4
for index = 1, count do
  local channel, has_id = ARGV[5 * index - 1], ARGV[5 * index + 3] ~= ''
  local key, sent = KEYS[at + 1], has_id and KEYS[at + 2]
  places[index] = at + 1
  at = at + (has_id and 2 or 1)
  local is_inbox = string.sub(channel, 1, #'$INBOXES') == '$INBOXES'
  if is_inbox and not (sent and redis.call('EXISTS', sent) == 1) then
    refused[index] = open_inbox(channel, key)
  end
end
local counter = redis.call('HINCRBY', KEYS[1], 'counter', count) - count
-- include: floor
note_floor(counter)
local results, payloads, expiries = {epoch, string.format('%.0f', counter)}, {}, {}
local channels, keys, last, longest, limits = {}, {}, {}, {}, {}
for index = 1, count do
  local channel, body, retain, most, remember = unpack(ARGV, 5 * index - 1, 5 * index + 3)
  local place = places[index]
  local key, sent = KEYS[place], remember ~= '' and KEYS[place + 1]
  retain = tonumber(retain)
  counter = counter + 1
  local digits = string.format('%.0f', counter)
  local expiry = expiries[retain]
  if not expiry then
    expiry = string.format('%.0f', now + retain)
    expiries[retain] = expiry
  end
  if sent and redis.call('EXISTS', sent) == 1 then
    results[index + 2] = sent_before(sent)
  elseif refused[index] then
    results[index + 2] = refused[index].err
  else
    local before = last[channel] or redis.call('ZSCORE', KEYS[3], channel)
    if not before then
      floor = floor or redis.call('HGET', KEYS[1], 'floor') or '0'
    end
    local payload, failure = store(key, body, epoch, digits, expiry, before, floor)
    if failure then
      results[index + 2] = failure.err
    else
      if not last[channel] then
        channels[#channels + 1] = channel
      end
      keys[channel], last[channel] = key, digits
      -- As if each had been trimmed to when it came.
      limits[channel] = math.min((limits[channel] or most) + 1, most)
      payloads[index] = payload
      if retain > (longest[channel] or 0) then
        longest[channel] = retain
      end
      if sent then
        redis.call('SET', sent, epoch .. '-' .. digits, 'PX', remember)
      end
    end
  end
  checkpoint(counter)
  if counter % 1024 == 0 then
    floor = nil
  end
end
for _, channel in ipairs(channels) do
  local key, retain = keys[channel], longest[channel]
  redis.call('XTRIM', key, 'MAXLEN', '=', limits[channel])
  redis.call('ZADD', KEYS[3], last[channel], channel)
  tidy(key, retain)
end
for said = 5 * count + 4, #ARGV, 2 do
  local channel, replay = ARGV[5 * ARGV[said] - 1], ARGV[said + 1]
  if payloads[tonumber(ARGV[said])] then
    note_replay(replays, channel, keys[channel], formers[channel], replay)
    formers[channel] = replay ~= '0' and replay
  end
end
if redis.call('EXISTS', '$ENDS') == 1 then
  -- include: end_grants
  end_grants(100, now, string.format('%.0f', counter - count))
end
for index = 1, count do
  local heard = results[index + 2]
  if not heard then
    -- Who may not publish to one channel may publish to another one.
    heard = redis.pcall('PUBLISH', '$PREFIX' .. ARGV[5 * index - 1], payloads[index])
  end
  results[index + 2] = type(heard) == 'table' and heard.err or heard
end
return results
