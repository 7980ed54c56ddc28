-- Stops a run, and says so in its channel: nothing of it is published any more.
-- KEYS: retention, epochs, last ids, checkpoints, replay, what is running.
-- ARGV: prefixes of runs, of their channels and of retained messages, messages to retain, PUB/SUB
-- channel of the nodes, milliseconds to remember last ids, milliseconds for which a sign of life
-- holds; then the id, the state and the event.
-- Returns 1 if it was running, else 0.

local runs, channel, retained, most, nodes, horizon, lease = unpack(ARGV)
local id, state, event = unpack(ARGV, 8)
if redis.call('HGET', runs .. id, 'state') ~= 'running' then
  return 0
end
-- include: epoch
-- include: now
-- include: end_run
return end_run(id, runs .. id, state, event) or 1
