"""What Redis is asked, and what its answers mean, without any I/O.

An application says what it wants, that is checked and becomes an operation. Who carries it out
only moves commands and answers: with threads, with asyncio, or with Twisted.

``operation``     an operation: what is sent, and what comes of it
``messages``      publishing
``tokens``        tokens
``channels``      lists of channels
``presence``      who is online
``pipeline``      operations that are collected
``conversation``  what is sent for operations on one connection
``spread``        operations on several Redis
``master``        which node the Sentinels call the master
``standin``       who stands in for Redis in tests
``identity``      how an application names subjects and channels
``content``       the data and the event type of a message, checked
``retention``     how long a message is retained, checked
``numbers``       what counts as a number
"""
