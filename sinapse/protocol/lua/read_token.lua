-- Says who a token stands for.
-- KEYS: the token.
-- Returns the subject, or nothing for an unknown token, the milliseconds that it has left or -1, and
-- what time it is, in milliseconds.

-- include: now
return {redis.call('GET', KEYS[1]) or '', redis.call('PTTL', KEYS[1]), string.format('%.0f', now)}
