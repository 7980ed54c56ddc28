"""Sockets: where connections come in, and how they end.

``listener``      any of Twisted's server endpoints
``inherited``     sockets that systemd or a parent process has bound
``certificates``  keys and certificates of an endpoint, read again when renewed
``direct``        frames written to many sockets
``tlstransport``  TLS written straight to the socket
``gate``          from when connections come in, how many, how fast
``turns``         what a turn of the reactor handles, and what first
``forwarded``     who a client is behind proxies
``descriptors``   how many connections a process may have
``bounds``        what the system should allow
``ending``        the clean end of a connection, with a deadline
``options``       those of the listening sockets, and so of all that are accepted
"""
