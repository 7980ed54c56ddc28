-- Several messages, in their order, each as publish_retained does one.
-- KEYS: retention, epochs, last ids, checkpoints; then for each message the retained messages of
-- its channel, and the key of its message id if it has one.
-- ARGV: PUB/SUB channel of the nodes, milliseconds to remember last ids; then for each message its
-- channel, payload without the id, milliseconds to retain, messages to retain, and milliseconds to
-- remember the message id, empty if it has none.
-- Returns for each message how many nodes heard it, -1 if it was published before, or the text of
-- an error if it could not be retained. All are retained before the first one is published.

local nodes, horizon = ARGV[1], ARGV[2]
local floor
-- include: epoch
-- include: now
-- include: store
-- include: tidy
-- include: checkpoint
local count = (#ARGV - 2) / 5
local counter = redis.call('HINCRBY', KEYS[1], 'counter', count) - count
-- include: floor
note_floor(counter)
local results, payloads, expiries = {}, {}, {}
local channels, keys, last, longest, limits = {}, {}, {}, {}, {}
local at = 4
for index = 1, count do
  local channel, body, retain, most, remember = unpack(ARGV, 5 * index - 2, 5 * index + 2)
  local key, sent = KEYS[at + 1], remember ~= '' and KEYS[at + 2]
  at = at + (sent and 2 or 1)
  retain = tonumber(retain)
  counter = counter + 1
  local digits = string.format('%.0f', counter)
  local expiry = expiries[retain]
  if not expiry then
    expiry = string.format('%.0f', now + retain)
    expiries[retain] = expiry
  end
  if sent and redis.call('EXISTS', sent) == 1 then
    results[index] = -1
  else
    local before = last[channel] or redis.call('ZSCORE', KEYS[3], channel)
    if not before then
      floor = floor or redis.call('HGET', KEYS[1], 'floor') or '0'
      before = floor
    end
    local payload, failure = store(key, body, epoch, digits, expiry, before)
    if failure then
      results[index] = failure.err
    else
      if not last[channel] then
        channels[#channels + 1] = channel
      end
      keys[channel], last[channel], limits[channel] = key, digits, most
      payloads[index] = payload
      if retain > (longest[channel] or 0) then
        longest[channel] = retain
      end
      if sent then
        redis.call('SET', sent, '', 'PX', remember)
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
for index = 1, count do
  results[index] = results[index] or redis.call('PUBLISH', ARGV[5 * index - 2], payloads[index])
end
return results
