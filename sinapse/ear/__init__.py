"""One subscriber connection to each Redis, shared by the workers of a node.

``multiplexer``  who is subscribed to what, what Redis is asked, what a worker is answered
``interest``     clients, names, and commands that have not taken effect yet
``answers``      what Redis sends to a subscriber, as bytes
``upstream``     the connection to one Redis, with the workers that share it
``wire``         the connection of a worker, which need not read at once
``service``      accepts workers, and finds for each the Redis that it asks for
``client``       how a worker reaches it
"""
