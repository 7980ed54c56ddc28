"""What the system should allow, as the daemon asks for it and `sinapse doctor` looks at it."""

#: Connections that the kernel accepts before we do. Twisted's 50 make a second of delay when
#: thousands come at once; the system's own limit (net.core.somaxconn) applies as well.
BACKLOG = 4096

#: Open files. A limit below this is logged: a machine of any size carries more streams.
FEW_FILES = 10_000
