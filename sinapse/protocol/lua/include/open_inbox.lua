-- Lets the subject of an inbox listen to `channel`, which is one, unless it may already: all nodes are
-- told, as add_channel does. A script that publishes does so first, so the message, which is going to
-- `key`, is for the subject. A grant whose time has come is ended before. If new streams get a past of the
-- channel, that takes a counter of its own. `now` is there already. Returns an error, and has changed
-- nothing, if what stands at one of these keys is not Sinapse's.

-- include: end_grant
-- include: end_of
local function open_inbox(channel, key)
  local subject = string.sub(channel, #'$INBOXES' + 1)
  if subject == '' then
    return nil
  end
  local member = subject .. '\n' .. channel
  local ends = end_of(member)
  local listed = redis.pcall('SISMEMBER', '$CHANNELS' .. subject, channel)
  if listed == 1 and (not ends or ends > now) then
    return nil
  end
  -- The types are seen before anything is written.
  local start = redis.pcall('HGET', '$GRANTS' .. subject, channel)
  local oldest = redis.pcall('XRANGE', key, '-', '+', 'COUNT', 1)
  for _, found in ipairs({listed, start, oldest}) do
    if type(found) == 'table' and found.err then
      return found
    end
  end
  local last = redis.call('HGET', '$RETENTION', 'counter') or '0'
  local has_past = redis.pcall('HEXISTS', '$REPLAY', channel) == 1 and last ~= '0' and is_counter(last)
  -- This is refused where nothing can be written, also if the counter stays.
  local counter = redis.call('HINCRBY', '$RETENTION', 'counter', has_past and 1 or 0)
  if listed == 1 then
    end_grant(member, last)
  elseif ends then
    redis.call('ZREM', '$ENDS', member)
  end
  local told = string.format('%.0f', counter) .. ' ' .. channel
  redis.call('HSET', '$GRANTS' .. subject, channel, string.format('%.0f', counter))
  redis.call('SADD', '$CHANNELS' .. subject, channel)
  if has_past then
    redis.call('PUBLISH', '$CHANNELS' .. subject .. ':$PAST', told)
  end
  redis.call('PUBLISH', '$CHANNELS' .. subject .. ':$GRANT', told)
  redis.call('PUBLISH', '$CHANNELS' .. subject .. ':$ADD', channel)
end
