-- Ends grants whose time has come at the time `now`, up to `most` at once; `counter` is that of the
-- last message before, the last one of all if it is nil. A script that publishes does so right before:
-- so no message is heard that was published after the end, whatever nodes are doing.

-- include: some_over
local function end_grants(most, now, counter)
  if some_over(now) then
    -- include: end_grant
    counter = counter or redis.call('HGET', '$RETENTION', 'counter') or '0'
    local over = redis.call('ZRANGE', '$ENDS', '-inf', now, 'BYSCORE', 'LIMIT', 0, most)
    for _, member in ipairs(over) do
      end_grant(member, counter)
    end
  end
end
