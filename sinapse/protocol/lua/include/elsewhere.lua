-- Presence: each node has a lease, which is a member of one sorted set with its end as score, and
-- the set of the subjects with streams there. So a node that dies is known to be gone without
-- anybody having written so, and to go on being there is one command, however many subjects it has.
-- While a node is in the sorted set, its subjects are those that have been told to be there. This
-- tells whether a `subject` has a stream at another one of `nodes` than `this`; ARGV[2] is the
-- prefix of the sets of subjects.

local function is_elsewhere(nodes, this, subject)
  for _, node in ipairs(nodes) do
    if node ~= this and redis.call('SISMEMBER', ARGV[2] .. node, subject) == 1 then
      return true
    end
  end
  return false
end
