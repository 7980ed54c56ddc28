-- `epoch`: that of a message, where `nodes` is the PUB/SUB channel of the nodes. They stand for an
-- epoch, and not for a Redis: PUB/SUB knows no databases, and the nodes of another one look after
-- its own. KEYS[1] is retention, KEYS[2] the epochs that have ended.

local epoch = redis.call('HGET', KEYS[1], 'epoch')
-- Nodes look at the epoch when they connect; while none stands for it, Redis may have started anew.
if not epoch or redis.call('PUBSUB', 'NUMSUB', nodes .. ':' .. epoch)[2] == 0 then
  -- include: epochs
  epoch = current_epoch()
end
