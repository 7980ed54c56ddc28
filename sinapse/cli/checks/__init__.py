"""What ``sinapse doctor`` checks.

``finding``   what a check has found
``redis``     each Redis: what it is, what is set, its clock
``prefixes``  which applications share a Redis
``daemon``    the daemon: whether it answers, and delivers
``relay``     relays of outboxes: whether they answer, and keep up
``machine``   what this machine allows
"""
