-- What a node does when it connects.
-- KEYS: retention, epochs.
-- ARGV: the epoch and the counter of the last id that the node knows; empty and 0 at first.
-- Returns the epoch, the counter, 1 if the node can go on from what it knows or 0 if something was
-- lost, the former epochs with the counters they ended at, and the counter up to which what the
-- node knows is the same here; -1 if none is.

-- include: epochs
local epoch, has_begun = current_epoch()
local counter = redis.call('HGET', KEYS[1], 'counter') or '0'
local reached = counter
if ARGV[1] ~= epoch then
  reached = redis.call('HGET', KEYS[2], ARGV[1])
  if reached ~= '-1' and not is_counter(reached) then
    reached = nil
  end
end
local continues = 1
if ARGV[1] ~= '' and tonumber(reached or '-1') < tonumber(ARGV[2]) then
  continues = 0
  -- Messages that clients may have received are gone, and perhaps others: no client can resume from
  -- an earlier id, nor from one of this epoch if streams have resumed before the loss was found.
  -- Epochs whose loss was found end at -1.
  local spoilt = ARGV[1] == epoch
  -- If the loss was found before, ids since then are of nodes that know it.
  for _, name in ipairs(reached == '-1' and {} or redis.call('HKEYS', KEYS[2])) do
    spoilt = spoilt or redis.call('HGET', KEYS[2], name) ~= '-1'
    redis.call('HSET', KEYS[2], name, '-1')
  end
  if spoilt and not has_begun then
    end_epoch(epoch, '-1')
    epoch = begin_epoch(redis.call('HGET', KEYS[1], 'run'))
  end
end
local same = math.min(tonumber(reached or '-1'), tonumber(ARGV[2]))
local ended = redis.call('HGETALL', KEYS[2])
return {epoch, counter, continues, ended, string.format('%.0f', same)}
