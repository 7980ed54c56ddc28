"""The protocol of the publisher, without any I/O.

:mod:`~sinapse.publisher.operations.operation`  what an operation is; what is sent, and comes of it
:mod:`~sinapse.publisher.operations.messages`   publishing
:mod:`~sinapse.publisher.operations.tokens`     tokens
:mod:`~sinapse.publisher.operations.channels`   lists of channels
:mod:`~sinapse.publisher.operations.master`     which node the Sentinels call the master

An application says what it wants, that is checked and becomes an operation. Who carries it out
only moves commands and answers: with threads, with asyncio, or with Twisted.
"""
