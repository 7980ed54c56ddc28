"""The administration endpoint: what the node counts, for scrapers and for people.

It has no authentication, so it is off unless asked for, and meant for a UNIX socket or the
loopback interface.

:mod:`~sinapse.admin.root`      its URLs
:mod:`~sinapse.admin.figures`   ``/metrics`` and ``/status``
"""
