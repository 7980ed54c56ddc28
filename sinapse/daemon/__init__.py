"""The daemon as a process.

``daemon``     every part of it, made and wired, from top to bottom
``service``    what ``twistd`` starts
``internals``  private parts of libraries that we use, checked at the start
``logs``       the log, as text or JSON lines
``looplag``    whether the event loop is late
``traces``     spans of messages, for OpenTelemetry
``signals``    what signals mean
``systemd``    notifications for a service manager
``workers``    several processes that serve the same sockets
"""
