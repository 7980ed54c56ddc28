-- An epoch is a time during which ids went up by one from message to message and none was given
-- twice. It ends with the process of Redis, since nobody can know what of its data came back with
-- the next one. The new epoch goes on counting where the data say; what the former one had counted
-- to by then is written down, so that an id of its is known to be older, or to be lost. Without an
-- epoch, nothing is known of former ones either. A counter begins with the clock, in tenths of a
-- millisecond, and never gains on it: so the ids after a loss are above all that were given before.
-- What somebody else has written there counts for nothing: these are data that are lost. KEYS[1] is
-- retention, KEYS[2] the epochs that have ended. `current_epoch` says as well whether it has just
-- begun.

-- include: is_counter
local function is_epoch(text)
  return text and #text <= 16 and string.find(text, '^[0-9a-f]+$') ~= nil
end
local function begin_epoch(run)
  local time = redis.call('TIME')
  local epoch = string.sub(run, 1, 2) .. string.format('%x', time[1] * 1000000 + time[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'run', run)
  local first = string.format('%.0f', time[1] * 10000 + math.floor(time[2] / 100))
  redis.call('HSETNX', KEYS[1], 'counter', first)
  return epoch
end
local function end_epoch(epoch, counter)
  redis.call('HSET', KEYS[2], epoch, counter)
  local ended = redis.call('HKEYS', KEYS[2])
  if #ended > 64 then
    table.sort(ended, function(a, b) return string.sub(a, 3) < string.sub(b, 3) end)
    redis.call('HDEL', KEYS[2], ended[1])
  end
end
local function current_epoch()
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  local state = redis.call('HMGET', KEYS[1], 'epoch', 'run', 'counter')
  if not is_epoch(state[1] or '0') or not is_counter(state[3] or '0') then
    redis.call('DEL', KEYS[1])
    state = {}
  end
  if state[1] and state[2] == run then
    return state[1]
  end
  local epoch = begin_epoch(run)
  if state[1] then
    end_epoch(state[1], state[3] or '0')
  else
    redis.call('DEL', KEYS[2])
  end
  return epoch, true
end
