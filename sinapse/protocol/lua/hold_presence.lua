-- Holds a node's lease, which says that it is there.
-- KEYS: presence, subjects of the node.
-- ARGV: node, milliseconds of its lease, milliseconds to remember what it leaves behind, 1 to
-- begin.
-- Returns 1, or 0 if the lease has run out: others may have told that its subjects are gone.

-- include: now
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ARGV[4] ~= '1' and (not lease or tonumber(lease) < now) then
  return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
