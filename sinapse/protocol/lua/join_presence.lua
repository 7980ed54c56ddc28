-- Notes subjects that are there now, and tells of those that were nowhere else.
-- KEYS: presence, subjects of the node.
-- ARGV: node, prefix of such sets, PUB/SUB channel of joins, milliseconds to remember; then
-- subjects.
-- Returns 1, or 0 if the lease has run out.

-- include: now
-- include: elsewhere
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0') < now then
  return 0
end
local nodes, joined = redis.call('ZRANGE', KEYS[1], 0, -1), {}
for index = 5, #ARGV do
  local subject = ARGV[index]
  local is_new = redis.call('SISMEMBER', KEYS[2], subject) == 0
  if is_new and not is_elsewhere(nodes, ARGV[1], subject) then
    joined[#joined + 1] = subject
  end
end
redis.call('SADD', KEYS[2], unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[2], ARGV[4])
for _, subject in ipairs(joined) do
  redis.call('PUBLISH', ARGV[3], subject)
end
return 1
