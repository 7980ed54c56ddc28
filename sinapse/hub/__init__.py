"""The subscribers of this node and their channels, without any I/O and without a clock.

``hub``          what changes the table: streams that open, control messages, Redis back again
``table``        who listens to what: subjects, their channels and their streams
``dispatch``     messages for subscribers
``subscribers``  subscribers, their subjects, and the audiences of channels
``joining``      streams that are about to open
``past``         what a stream gets of channels that are new to it
``catchup``      streams that are held until a channel's missed messages are read
``fanout``       a large fan-out, in slices
``presence``     subjects that have a stream here, or had one moments ago
"""
