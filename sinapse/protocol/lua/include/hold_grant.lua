-- Lets the grant of the channel of a run end when nothing of that can be heard any more: `retain`
-- milliseconds from `now` if the run is over, and thrice `lease` later if it goes on, as it may only
-- then be said that it is lost. What was removed, or has ended, does not come back; what was given for
-- good, or for longer, stays so. If this grant is the next one of all to end, nodes are told when.

-- include: end_of
local function hold_grant(subject, channel, retain, lease, goes_on)
  local member = subject .. '\n' .. channel
  local at = end_of(member)
  if at and goes_on then
    redis.call('ZADD', '$ENDS', 'XX', 'GT', now + retain + 3 * lease, member)
  elseif at and at <= now + retain + 3 * lease then
    redis.call('ZADD', '$ENDS', 'XX', now + retain, member)
    if redis.call('ZRANGE', '$ENDS', 0, 0)[1] == member then
      redis.call('PUBLISH', '$CHANNELS' .. subject .. ':$END', string.format('%.0f', retain))
    end
  end
end
