-- Publishes messages that are not retained.
-- KEYS: a key that is never there.
-- ARGV: channel and payload of each message, in turn.
-- Returns for each how many nodes heard it, or the text of an error. The first command changes
-- nothing, but is refused where nothing can be written, and where a bare PUBLISH would reach
-- nobody: on a replica, without memory, with a full disk.

redis.call('SET', KEYS[1], '', 'XX')
if redis.call('EXISTS', '$ENDS') == 1 then
  -- include: now
  -- include: end_grants
  end_grants(100, now)
end
local results = {}
for index = 1, #ARGV, 2 do
  local heard = redis.pcall('PUBLISH', '$PREFIX' .. ARGV[index], ARGV[index + 1])
  results[#results + 1] = type(heard) == 'table' and heard.err or heard
end
return results
