-- Tells nodes which tokens have ended. If tokens have moved between several Redis, others may have copies
-- of these: that they were revoked is remembered in the same step, for a day, for nodes that ask here.

local may_have_copies = redis.call('HEXISTS', '$MOVE', 'tokens') == 1
local function tell_revoked(told, revoked)
  for _, token in ipairs(may_have_copies and revoked or {}) do
    redis.call('SET', '$REVOKED' .. token, '', 'PX', 86400000)
  end
  for _, token in ipairs(revoked) do
    redis.call('PUBLISH', told, token)
  end
end
