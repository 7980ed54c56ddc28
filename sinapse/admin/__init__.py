"""The administration endpoint: what the node counts, for scrapers and for people.

It has no authentication, so it is off unless asked for, and meant for a UNIX socket or the
loopback interface.

``root``        its URLs
``guard``       who may ask it anything
``page``        ``/``, the live page
``metrics``     what there is for scrapers, from the counters
``status``      ``/metrics`` and ``/status``
``lookups``     ``/subjects/<id>`` and ``/channels``
``inspection``  what there is to be seen of the hub
"""
