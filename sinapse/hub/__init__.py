"""Who listens to what on this node, without any I/O and without a clock.

``hub``          the subscription table: live authorisation
``dispatch``     messages, handed out to subscribers
``subscribers``  subscribers, their subjects, and the audiences of channels
``joining``      streams on their way in
``catchup``      streams that are held until a channel's past is read
``fanout``       a large fan-out, in slices
``presence``     who has streams here, or had one moments ago
"""
