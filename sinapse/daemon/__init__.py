"""The daemon as a process.

``daemon``     every part of it, made and wired, from top to bottom
``service``    what ``twistd`` starts
``internals``  what is used of libraries without being promised, checked at the start
``logs``       the log, as text or JSON lines
``looplag``    whether the event loop is late
``signals``    what signals mean
``systemd``    what a service manager is told
``workers``    several processes that serve the same sockets
"""
