"""Several processes that serve the same sockets, and the one that looks after them.

:mod:`~sinapse.workers.supervisor`   the parent: binds, starts workers, serves no stream
:mod:`~sinapse.workers.process`      a worker, as its parent sees it
:mod:`~sinapse.workers.worker`       a worker, as it sees itself: a daemon on what it was given
:mod:`~sinapse.workers.inheritance`  what that is
:mod:`~sinapse.workers.ports`        the sockets, in the parent and in a worker
:mod:`~sinapse.workers.logs`         the lines of all in one log
:mod:`~sinapse.workers.overview`     the administration endpoint for all
:mod:`~sinapse.workers.asking`       what one worker answers on its own
:mod:`~sinapse.workers.totals`       adding up what all of them say
"""
