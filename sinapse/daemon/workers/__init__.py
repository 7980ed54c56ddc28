"""Several processes that serve the same sockets, and the one that looks after them.

``supervisor``   the parent: binds, starts workers, serves no stream
``process``      a worker, as its parent sees it
``worker``       a worker, as it sees itself: a daemon on what it inherits
``inheritance``  what a worker inherits: sockets, and a folder
``ports``        the sockets, in the parent and in a worker
``relay``        the lines of all in one log
``overview``     the administration endpoint for all
``client``       what one worker answers on its own
``totals``       adding up what all of them say
"""
