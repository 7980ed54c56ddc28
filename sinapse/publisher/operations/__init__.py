"""Requests to Redis, and the meaning of its answers, without any I/O.

A call of the application is checked and becomes an operation. The publishers only transport its
commands and answers: with threads, with asyncio, or with Twisted.

``operation``     an operation: its request, and its result
``messages``      publishing
``sent``          what is published once, by the id of its caller
``spans``         spans of what is published
``tokens``        tokens
``sessions``      sessions
``revoking``      what ends tokens, and tells every node
``channels``      lists of channels
``groups``        groups, and their channels
``left``          what is left in a list that was emptied
``presence``      who is online
``position``      the id of now
``history``       what is retained of a channel
``runs``          what becomes of runs
``runner``        the classes that carry operations out
``conversation``  the commands of operations on one connection
``batches``       what several callers publish at one moment
``spread``        operations on several Redis
``moving``        the same while a Redis joins the others, or leaves them
``step``          whether the list of a publisher is that of the step at which that is
``homes``         tokens and sessions as they stand in one place
``master``        which node the Sentinels call the master
``standin``       a stand-in for Redis, for tests
``identity``      how an application names subjects and channels
``published``     what is known of a message once it is published
``content``       the data and the event type of a message, checked
``retention``     how long a message is retained, checked
``lifetime``      how long a token lives, or a grant, checked
``numbers``       what counts as a number
"""
