-- Ends one session of a subject, or all but one.
-- KEYS: the subject's sessions.
-- ARGV: the id of the session to end, or nothing for all; the id of one that stays, or nothing; prefix
-- of sessions, prefix of token keys, control channel.
-- Returns the tokens of those that were ended.

local one, but, prefix, tokens, told = unpack(ARGV)
-- include: sessions_there
local ids, held = sessions_there(prefix)
local ended, revoked = {}, {}
for at, id in ipairs(ids) do
  if id ~= but and (one == '' or id == one) then
    ended[#ended + 1], revoked[#revoked + 1] = id, held[at]
  end
end
-- include: end_sessions
-- include: tell_revoked
end_sessions(ended, revoked, prefix, tokens)
tell_revoked(told, revoked)
return revoked
