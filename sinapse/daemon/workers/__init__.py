"""Several processes that serve the same sockets, one that hears Redis for them, and their parent.

``supervisor``   the parent: binds, starts workers, serves no stream
``process``      a worker, or the ear, as its parent sees it
``worker``       a worker, as it sees itself: a daemon on what it inherits
``ear``          the ear, as it sees itself: the only subscriber of the node
``inheritance``  what a process inherits: sockets, and a folder
``ports``        the sockets, in the parent and in a worker
``relay``        the lines of all in one log
``overview``     the administration endpoint for all
``client``       what one worker answers on its own
``totals``       adding up what all of them say
"""
