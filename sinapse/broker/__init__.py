"""Redis for the daemon: subscriptions, look-ups, and being there again after a break.

:mod:`~sinapse.broker.broker`         the life of the connections, as one coroutine
:mod:`~sinapse.broker.subscription`   the connection that messages arrive on
:mod:`~sinapse.broker.lookup`         the connections that tokens and lists are looked up on
:mod:`~sinapse.broker.dial`           how to reach a Redis: endpoint, TLS, AUTH, SELECT
:mod:`~sinapse.broker.embedded`       a private Valkey that lives as long as the daemon
"""
