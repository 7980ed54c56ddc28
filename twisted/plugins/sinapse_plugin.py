"""Makes ``twistd sinapse`` known to Twisted; imports nothing of the daemon itself."""

from twisted.application.service import ServiceMaker

sinapse = ServiceMaker(  # type: ignore[no-untyped-call]
    "Sinapse",
    "sinapse.daemon.service",
    "Push messages from Redis to browsers over EventSource.",
    "sinapse",
)
