-- Ends a run that is running, with `state`, and says so in its channel with `event`: the data of
-- that are kept with the run. `run` is its key, `channel` begins the names of channels of runs, and
-- `retained` the keys of retained messages. KEYS[6] is the set of what is running.

-- include: tell
local function end_run(id, run, state, event)
  local subject, retain, data = unpack(redis.call('HMGET', run, 'subject', 'retain', 'data'))
  redis.call('HSET', run, 'state', state)
  redis.call('PEXPIRE', run, retain)
  redis.call('ZREM', KEYS[6], id)
  local body = string.char(147, 160 + #event) .. event .. data
  return tell(subject, channel .. id, retained .. channel .. id, body, tonumber(retain), false)
end
