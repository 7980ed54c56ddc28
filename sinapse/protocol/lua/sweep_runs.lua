-- Ends runs whose process has given no sign of life in time, and says so in their channels.
-- KEYS: retention, epochs, last ids, checkpoints, replay, what is running.
-- ARGV: prefixes of runs, of their channels and of retained messages, messages to retain, PUB/SUB
-- channel of the nodes, milliseconds to remember last ids, milliseconds for which a sign of life
-- holds; then runs at once, the state, the event, and up to when a sign of life can have held.
-- Returns how many were looked at, if as many as there may be at once there may be more; and when that
-- was. Up to then the next look goes: a Redis that stood still, with all that wait for it, may get this
-- before the signs of life.

local runs, channel, retained, most, nodes, horizon, lease = unpack(ARGV)
local limit, state, event, upto = unpack(ARGV, 8)
-- include: now
local seen = string.format('%.0f', now)
if redis.call('EXISTS', KEYS[6]) == 0 then
  return {0, seen}
end
local over = redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', '(' .. upto, 'LIMIT', 0, limit)
if #over == 0 then
  return {0, seen}
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
return {#over, seen}
