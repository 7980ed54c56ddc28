-- Ends runs whose process has given no sign of life in time, and says so in their channels.
-- KEYS: retention, epochs, last ids, checkpoints, replay, what is running.
-- ARGV: prefixes of runs, of their channels and of retained messages, messages to retain, PUB/SUB
-- channel of the nodes, milliseconds to remember last ids, milliseconds for which a sign of life
-- holds; then runs at once, the state and the event.
-- Returns how many were looked at; if as many as there may be at once, there may be more.

local runs, channel, retained, most, nodes, horizon, lease = unpack(ARGV)
local limit, state, event = unpack(ARGV, 8)
if redis.call('EXISTS', KEYS[6]) == 0 then
  return 0
end
-- include: now
local over = redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', '(' .. now, 'LIMIT', 0, limit)
if #over == 0 then
  return 0
end
-- include: epoch
-- include: end_run
for _, id in ipairs(over) do
  local found = redis.pcall('HMGET', runs .. id, 'state', 'retain', 'subject', 'data')
  if found[1] == 'running' and tonumber(found[2]) and found[3] and found[4] then
    -- It is lost even if that cannot be said, because its channel has something else there.
    end_run(id, runs .. id, state, event)
  else
    redis.call('ZREM', KEYS[6], id)
  end
end
return #over
