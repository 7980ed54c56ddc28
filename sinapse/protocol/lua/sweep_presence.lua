-- Tells of subjects whose node is gone without having said so.
-- KEYS: presence.
-- ARGV: subjects at once, prefix of the sets of nodes, PUB/SUB channel of leaves.
-- Returns 1 if there may be more.

-- include: now
-- include: elsewhere
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now, 'LIMIT', 0, 1)[1]
if not gone then
  return 0
end
local nodes = redis.call('ZRANGE', KEYS[1], 0, -1)
local subjects = redis.pcall('SPOP', ARGV[2] .. gone, ARGV[1])
if subjects.err and not string.find(subjects.err, 'WRONGTYPE', 1, true) then
  return subjects
end
if #subjects < tonumber(ARGV[1]) then
  redis.call('ZREM', KEYS[1], gone)
end
for _, subject in ipairs(subjects) do
  if not is_elsewhere(nodes, gone, subject) then
    redis.call('PUBLISH', ARGV[3], subject)
  end
end
return 1
