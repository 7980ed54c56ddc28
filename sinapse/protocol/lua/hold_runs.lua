-- Gives signs of life of runs that tell nothing at the moment.
-- KEYS: what is running.
-- ARGV: prefixes of runs, of their channels and of retained messages, milliseconds for which a sign of
-- life holds, milliseconds to remember last ids; then ids of runs.
-- Returns the state of each, empty if it is not known.

-- include: now
-- include: hold_grant
local lease, horizon, states = ARGV[4], ARGV[5], {}
-- include: keep_messages
for index = 6, #ARGV do
  local id = ARGV[index]
  local run = ARGV[1] .. id
  local state, subject, retain = unpack(redis.call('HMGET', run, 'state', 'subject', 'retain'))
  states[#states + 1] = state or ''
  if state == 'running' then
    redis.call('HSET', run, 'seen', string.format('%.0f', now))
    redis.call('PEXPIRE', run, string.format('%.0f', retain + 3 * lease))
    redis.call('ZADD', KEYS[1], string.format('%.0f', now + lease), id)
    keep_messages(ARGV[3] .. ARGV[2] .. id, tonumber(retain), lease, true)
    hold_grant(subject, ARGV[2] .. id, retain, lease, true)
  end
end
return states
