"""The administration endpoint: what the node counts, for scrapers and for people.

It has no authentication, so it is off unless asked for, and meant for a UNIX socket or the
loopback interface.

:mod:`~sinapse.admin.root`         its URLs
:mod:`~sinapse.admin.page`         ``/``, the live page
:mod:`~sinapse.admin.figures`      ``/metrics`` and ``/status``
:mod:`~sinapse.admin.looks`        ``/subjects/<id>`` and ``/channels``
:mod:`~sinapse.admin.inspection`   what there is to be seen of the hub
"""
