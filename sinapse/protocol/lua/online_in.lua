-- Pages through the subjects with streams that may listen to a channel.
-- KEYS: presence.
-- ARGV: channel, prefix of the sets of nodes, prefix of the sets of channels, where to go on: a
-- node and a cursor, both empty at first; subjects at once.
-- Returns where to go on, the node being empty when all were seen, and subjects with streams that
-- may listen to the channel.

local function may_listen(subject)
  if redis.call('SISMEMBER', ARGV[3] .. subject, ARGV[1]) == 1 then
    return true
  end
  for _, group in ipairs(redis.call('HKEYS', '$GROUPS' .. subject)) do
    if redis.call('HEXISTS', '$GROUP' .. group, ARGV[1]) == 1 then
      return true
    end
  end
  return false
end

-- include: now
local nodes = redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')
table.sort(nodes)
for _, node in ipairs(nodes) do
  if node > ARGV[4] or (node == ARGV[4] and ARGV[5] ~= '0') then
    local cursor = node == ARGV[4] and ARGV[5] or '0'
    local page = redis.call('SSCAN', ARGV[2] .. node, cursor, 'COUNT', ARGV[6])
    local found = {}
    for _, subject in ipairs(page[2]) do
      if may_listen(subject) then
        found[#found + 1] = subject
      end
    end
    return {node, page[1], found}
  end
end
return {'', '', {}}
