-- Notes, in the hash `replays`, how much of the past of `channel` a new stream gets: `replay`, 0 for
-- nothing, where `former` was noted before, false for nothing. `key` has the retained messages of
-- the channel. With each new channel two others are looked at, and forgotten if nothing of theirs
-- is retained any more: so the hash does not grow for ever. Nodes are told of a new channel: a stream
-- that is about to open may have been looked up before.

local function note_replay(replays, channel, key, former, replay)
  if replay == '0' then
    redis.call('HDEL', replays, channel)
  elseif replay ~= former then
    redis.call('HSET', replays, channel, replay)
    if not former then
      redis.call('PUBLISH', '$CHANNELS:$REPLAYED', channel)
    end
    local prefix = string.sub(key, 1, -1 - #channel)
    for _, other in ipairs(former and {} or redis.call('HRANDFIELD', replays, 2)) do
      if redis.call('EXISTS', prefix .. other) == 0 then
        redis.call('HDEL', replays, other)
      end
    end
  end
end
