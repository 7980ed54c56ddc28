-- Ends grants whose time has come, up to `most` at once. A script that publishes does so right before:
-- so no message is heard that was published after the end, whatever nodes are doing. Where no grant
-- ends, that is one look at a key that is not there. `counter` is that of the last message before; of
-- the last one of all if it is nil.

-- include: first_end
-- include: end_grant
local function end_grants(most, counter)
  local first = first_end()
  if not first then
    return
  end
  -- include: now
  if tonumber(first) <= now then
    counter = counter or redis.call('HGET', '$RETENTION', 'counter') or '0'
    local over = redis.call('ZRANGE', '$ENDS', '-inf', now, 'BYSCORE', 'LIMIT', 0, most)
    for _, member in ipairs(over) do
      end_grant(member, counter)
    end
  end
end
