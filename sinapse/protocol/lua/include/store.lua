-- Retains a message in `key` until `expiry`, its id made of `epoch` and `digits`, the counter:
-- `body` is its payload without that; an array of four has what follows the id at its end, and behind
-- it how many bytes that is, as one byte. `before` is the counter of the message before it, false if
-- none is known: then it is after `floor`; `most` is how many are kept, nil if that is seen to later.
-- `time` is there already. Returns what is to be published, and an error if nothing is retained: the
-- payload; one in seven with the time in its map, so that nodes know its age.

local function store(key, body, epoch, digits, expiry, before, floor, most)
  local kind, tail = string.byte(body), ''
  if kind == 148 then
    local size = string.byte(body, -1)
    tail, body = string.sub(body, -1 - size, -2), string.sub(body, 1, -2 - size)
  end
  local id = string.char(161 + #epoch + #digits) .. epoch .. '-' .. digits
  local payload = body .. id .. tail
  local entry, link = digits .. '-' .. expiry, before and 'b' or 'f'
  local added
  if most then
    added = redis.pcall('XADD', key, 'MAXLEN', '=', most, entry, 'p', payload, link, before or floor)
  else
    added = redis.pcall('XADD', key, entry, 'p', payload, link, before or floor)
  end
  if type(added) == 'table' and string.find(added.err, 'equal or smaller', 1, true) then
    -- The counter went back, but not the messages: no client can resume from these.
    redis.call('DEL', key)
    added = redis.call('XADD', key, entry, 'p', payload, 'b', string.format('%.0f', digits - 1))
  end
  -- For all it would take a tenth more of Redis where many come together. Few applications publish in
  -- sevens: the sample is of all that they do.
  if digits % 7 == 0 then
    local at = '\162at\176' .. string.format('%s%06d', time[1], time[2])
    local keys = kind == 148 and string.byte(tail) or 0
    if kind == 147 then
      payload = '\148' .. string.sub(body, 2) .. id .. '\129' .. at
    elseif keys > 127 and keys < 143 then
      payload = body .. id .. string.char(keys + 1) .. string.sub(tail, 2) .. at
    end
  end
  return payload, type(added) == 'table' and added
end
