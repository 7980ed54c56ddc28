"""Redis, as the daemon uses it: authorisation, live messages, replay.

``interface``     what streams need of Redis, one or several
``broker``        one Redis, over all sessions with it
``connection``    staying connected with it: one session after another
``session``       its connections, until one is lost
``recovery``      lists and messages that a break has missed
``sharded``       several Redis as one
``bundles``       the open streams over these
``bundle``        one such stream, with a member for each
``late``          streams that opened while one of these was away
``degraded``      telling streams which of these are away
``payloads``      messages from payloads, and the size limit
``subscription``  the connection that messages arrive on
``lookup``        the connections for commands
``ends``          grants that end when their time has come
``history``       retained messages, read for many streams at once
``replay``        streams brought up to date from them
``clock``         the clock of Redis beside ours
``probes``        whether a connection still delivers
``sentinel``      which node is the master
``background``    a service that is a coroutine
``runs``          runs whose process has died
``sightings``     when streams of sessions were open
``presence``      which subjects are online, reported to Redis
``occupancy``     which channels have a listener, reported in the same way
"""
