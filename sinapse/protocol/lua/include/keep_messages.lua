-- Lets the messages of a run, in `key`, live for `retain` milliseconds after its end; while it goes on,
-- thrice `lease` longer, as it may only then be said that it is lost.

local function keep_messages(key, retain, lease, goes_on)
  local life = goes_on and retain + 3 * lease or retain
  if retain > horizon / 2 then
    life = life + horizon / 2
  end
  redis.call('PEXPIRE', key, string.format('%.0f', life))
end
