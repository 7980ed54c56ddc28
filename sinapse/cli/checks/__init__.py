"""What ``sinapse doctor`` checks.

``finding``      what a check has found
``redis``        each Redis: whether it is what is needed
``server``       what it is asked, and what it says of itself
``scripts``      whether it runs our scripts
``permissions``  what the user may do there
``refusals``     what it means when it refuses a command
``delivery``     whether what is published is heard
``settings``     what is set, and its clock
``prefixes``     which applications share a Redis
``daemon``       the daemon: whether it answers, and delivers
``relay``        relays of outboxes: whether they answer, and keep up
``machine``      what this machine allows
"""
