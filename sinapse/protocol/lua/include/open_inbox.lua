-- Lets a subject listen to `channel` if that is its inbox, and not on its list: all nodes are told, as
-- add_channel does. A script that publishes does so first, so the message is for the subject. If new
-- streams get a past of the channel, that takes a counter of its own.

-- include: is_counter
local function open_inbox(channel)
  if string.sub(channel, 1, #'$INBOXES') ~= '$INBOXES' then
    return
  end
  local subject = string.sub(channel, #'$INBOXES' + 1)
  if subject == '' or redis.call('SISMEMBER', '$CHANNELS' .. subject, channel) == 1 then
    return
  end
  local counter = redis.call('HGET', '$RETENTION', 'counter') or '0'
  local has_past = redis.call('HEXISTS', '$REPLAY', channel) == 1
    and counter ~= '0' and is_counter(counter)
  if has_past then
    counter = string.format('%.0f', redis.call('HINCRBY', '$RETENTION', 'counter', 1))
  end
  redis.call('HSET', '$GRANTS' .. subject, channel, counter)
  redis.call('SADD', '$CHANNELS' .. subject, channel)
  local control = '$CHANNELS' .. subject .. ':'
  if has_past then
    redis.call('PUBLISH', control .. '$PAST', counter .. ' ' .. channel)
  end
  redis.call('PUBLISH', control .. '$GRANT', counter .. ' ' .. channel)
  redis.call('PUBLISH', control .. '$ADD', channel)
end
