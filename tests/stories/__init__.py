"""Long stories of publishing, changing lists and breaking things, and what they must come to.

:mod:`~tests.stories.model`   what was done, in the order of Redis, and what that makes of a tab
:mod:`~tests.stories.tabs`    browsers: event streams, WebSockets and long polls on raw sockets
:mod:`~tests.stories.world`   real Redis and real daemons, with pages of three messages
:mod:`~tests.stories.teller`  the dice, and the counts of what was wrong
"""
