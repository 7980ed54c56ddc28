-- Notes subjects that are gone from a node, and tells of those that are nowhere else.
-- KEYS: presence, subjects of the node.
-- ARGV: node, prefix of such sets, PUB/SUB channel of leaves; then subjects.
-- Returns 1, or 0 if the lease has run out.

-- include: now
-- include: elsewhere
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0') < now then
  return 0
end
local nodes = redis.call('ZRANGE', KEYS[1], 0, -1)
for index = 4, #ARGV do
  local subject = ARGV[index]
  if redis.call('SREM', KEYS[2], subject) == 1 and not is_elsewhere(nodes, ARGV[1], subject) then
    redis.call('PUBLISH', ARGV[3], subject)
  end
end
return 1
