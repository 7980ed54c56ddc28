"""Push messages from a Python backend to browsers.

The daemon is ``twistd sinapse`` (:mod:`sinapse.daemon.service`); applications publish with
:mod:`sinapse.publisher`. ``docs/design.md`` names the reading order.

``protocol``       what goes over Redis
``listening``      event streams, as programs in Python read them
``hub``            who listens to what on this node
``framing``        messages as bytes
``publisher``      the library for applications
``txredis``        a Redis, reached or run by Twisted
``sockets``        where connections come in, and how they end
``ear``            one subscriber connection for all workers of a node
``web``            HTTP: requests that are bounded
``broker``         Redis for streams
``settings``       the options: command line, environment, help
``streams``        open streams, from the request to the last byte
``api``            the HTTP API, for backends that do not speak to Redis
``admin``          metrics, and the live page
``daemon``         the process
``cli``            the command ``sinapse``
``testing``        for the tests of applications
``errors``         exceptions, and the reasons for which a stream ends or is reset
``environment``    what both sides read in the environment
``counters``       what a node counts, and how long things take
``ratelimit``      how fast something may happen: lines of the log, a token bucket
``child``          processes that end with the one that started them
``tracing``        spans, for OpenTelemetry
``printable``      text as a terminal may show it
``pytest_plugin``  the fixtures for tests of applications
"""

__version__ = "1.0.0rc1"
