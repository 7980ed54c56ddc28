-- Tells the sessions of a subject, the oldest first.
-- KEYS: the subject's sessions.
-- ARGV: prefix of sessions.
-- Returns for each its id; when it was opened, and when a stream of it was seen open last; its device;
-- the channels that it is only for, a line each; and when it expires. All is text, empty for what there
-- is not; times are milliseconds since 1970.

-- include: now
local told = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local key = ARGV[1] .. id
  local opened, seen, device, only =
    unpack(redis.call('HMGET', key, 'opened', 'seen', 'device', 'only'))
  local left = redis.call('PTTL', key)
  if opened then
    local expires = left >= 0 and string.format('%.0f', now + left)
    told[#told + 1] = {id, opened, seen or '', device or '', only or '', expires or ''}
  end
end
return told
