"""Makes ``twistd sinapse`` known to Twisted; imports nothing of the daemon itself."""

from twisted.application.service import ServiceMaker

sinapse = ServiceMaker(
    "Sinapse",
    "sinapse.service",
    "Push messages from Redis to browsers over EventSource.",
    "sinapse",
)
