-- Gives signs of life of runs that tell nothing at the moment.
-- KEYS: what is running.
-- ARGV: prefix of runs, milliseconds for which a sign of life holds; then ids of runs.
-- Returns the state of each, empty if it is not known.

-- include: now
local states = {}
for index = 3, #ARGV do
  local run = ARGV[1] .. ARGV[index]
  local state, retain = unpack(redis.call('HMGET', run, 'state', 'retain'))
  states[#states + 1] = state or ''
  if state == 'running' then
    redis.call('HSET', run, 'seen', string.format('%.0f', now))
    redis.call('PEXPIRE', run, string.format('%.0f', retain + ARGV[2]))
    redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[index])
  end
end
return states
