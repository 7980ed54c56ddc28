-- Ends a grant, a `member` of the ends, and tells every node, as remove_channel does: `counter` is that
-- of the last message that came before the end. What stands at the keys of one subject and is not
-- Sinapse's is that subject's trouble. If a group goes on to give the channel to the subject, what has
-- ended is noted.

-- include: keep_own
local function end_grant(member, counter)
  local subject, channel = string.match(member, '^([^\n]+)\n(.+)$')
  redis.call('ZREM', '$ENDS', member)
  if subject then
    local start = redis.pcall('HGET', '$GRANTS' .. subject, channel)
    local removed = redis.pcall('SREM', '$CHANNELS' .. subject, channel)
    redis.pcall('HDEL', '$GRANTS' .. subject, channel)
    if removed == 1 and type(start) ~= 'table' then
      keep_own(subject, {channel}, {start}, counter)
    end
    redis.call('PUBLISH', '$CHANNELS' .. subject .. ':$WITHDRAW', counter .. ' ' .. channel)
    redis.call('PUBLISH', '$CHANNELS' .. subject .. ':$REMOVE', channel)
  end
end
