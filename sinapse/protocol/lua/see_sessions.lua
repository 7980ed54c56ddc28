-- Notes that streams of sessions are open now.
-- KEYS: none.
-- ARGV: prefix of sessions, then ids of sessions; those that have ended are left out.
-- Returns how many there are.

-- include: now
local count = 0
for at = 2, #ARGV do
  local key = ARGV[1] .. ARGV[at]
  if redis.call('EXISTS', key) == 1 then
    redis.call('HSET', key, 'seen', string.format('%.0f', now))
    count = count + 1
  end
end
return count
