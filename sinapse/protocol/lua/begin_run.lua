-- Notes that a run has begun.
-- KEYS: the run, what is running.
-- ARGV: id, name, subject, data of its last message as MessagePack, milliseconds to retain its
-- messages, milliseconds for which a sign of life holds.
-- Returns 1. A run is remembered for as long as its last message is retained.

-- include: now
local seen = string.format('%.0f', now)
redis.call('HSET', KEYS[1], 'name', ARGV[2], 'subject', ARGV[3], 'state', 'running',
  'begun', seen, 'seen', seen, 'messages', '0', 'data', ARGV[4], 'retain', ARGV[5])
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ARGV[5] + 3 * ARGV[6]))
redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[6]), ARGV[1])
return 1
