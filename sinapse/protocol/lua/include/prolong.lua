-- Lets both keys of `token` live for `life` milliseconds at least, or for ever if that is nil;
-- KEYS[1] is the subject's current token, `prefix` that of token keys. When it was obtained first,
-- in the set KEYS[2], is remembered for as long as it lives.

-- include: lengthen
local function prolong(prefix, token, life)
  lengthen(KEYS[1], life)
  lengthen(prefix .. token, life)
  local lasts = redis.call('PTTL', prefix .. token)
  if lasts > redis.call('PTTL', KEYS[2]) then
    redis.call('PEXPIRE', KEYS[2], string.format('%.0f', lasts))
  end
end
