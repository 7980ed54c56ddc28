"""What goes over Redis, without any I/O: see ``docs/protocol.md``.

``names``      every name in Redis, under the prefix of an application
``keys``       what a valid name is, and tokens
``message``    the payload of a message
``trace``      the trace that a message belongs to
``ids``        ids of retained messages, and last event IDs
``places``     last event IDs over several Redis
``scripts``    the Lua scripts of both sides
``redisurl``   where Redis is
``redislist``  several of these
``only``       the part of a list that a token is for
``runs``       states of runs, and the messages that they publish
``role``       whether a Redis is a master
``sharding``   which of several Redis has what
"""
