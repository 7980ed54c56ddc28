"""Several Redis, with the channels spread over them: see :mod:`sinapse.protocol.sharding`.

For each there is a hub, a broker and replays of its own, exact as ever. A stream is a member of
every hub, and what these send it is put together here: its last event ID has one part for each
Redis, the id of the last message that came from there. So it is right for this very stream,
whatever the others do: one is away, another replays, a third is live.

``broker``  who may listen, asked of each
``hub``     the tables, in each of which a stream is a member
``replay``  streams brought up to date, in each from its own part of the id
"""
