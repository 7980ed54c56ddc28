"""A Redis, reached or run by Twisted.

``dial``      a connection that is ready for commands
``link``      a connection for commands
``tls``       TLS to Redis, with certificates checked
``embedded``  a private Valkey that lives as long as the daemon
"""
