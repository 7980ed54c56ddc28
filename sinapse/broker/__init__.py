"""Redis for streams: who may listen, what is published, what was missed.

``interface``     what streams need of it, be it one Redis or several
``broker``        one Redis: connect, reconcile, catch up, and again after a break
``subscription``  the connection that messages arrive on
``lookup``        the connections that tokens and lists are looked up on
``history``       retained messages, read for many at once
``replay``        streams brought up to date from them
``probes``        whether a connection still delivers
``sentinel``      which node is the master
``presence``      who is there, told to Redis
``shards``        several Redis as one
"""
