"""The subscribers of this node and their channels, without any I/O and without a clock.

``hub``          what has happened, in the order of Redis: control messages, streams, breaks
``opening``      how streams open, with what has changed since they were looked up
``lists``        what subjects may listen to, by themselves and by groups, and how it changes
``table``        who listens to what, and what becomes of streams when that changes
``dispatch``     messages for subscribers
``subscribers``  subscribers, their subjects and groups, and channels
``audience``     the streams of one framing that hear the same
``register``     what is known by ids
``former``       rights that have ended beside others: since when there was one without a break
``joining``      streams that are about to open
``past``         what a stream gets of channels that are new to it
``catchup``      streams that are held until a channel's missed messages are read
``outbox``       what each stream gets of the messages of one read
``fanout``       a large fan-out, in slices
``journeys``     what becomes of messages here
``presence``     what is here or was moments ago: subjects with a stream, channels with a listener
"""
