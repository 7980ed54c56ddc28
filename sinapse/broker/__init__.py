"""Redis for streams: who may listen, what is published, what was missed.

``interface``     what streams need of it, be it one Redis or several
``broker``        one Redis: what is asked of it, over as many sessions as that takes
``session``       one life of its connections
``recovery``      lists and messages of while they were broken
``sharded``       several Redis as one
``bundle``        a stream over several Redis
``payloads``      messages, and which of them no stream can hold
``subscription``  the connection that messages arrive on
``lookup``        the connections that tokens and lists are looked up on
``history``       retained messages, read for many at once
``replay``        streams brought up to date from them
``probes``        whether a connection still delivers
``sentinel``      which node is the master
``presence``      who is there, told to Redis
"""
