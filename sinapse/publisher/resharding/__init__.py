"""Moving channels and tokens between several Redis while everything runs.

See ``docs/sharding.md``.

``parties``    the Redis, and the one who moves
``entries``    what can move, as it is found by its key
``copying``    making the other place the same
``knowing``    whether all nodes act by what a Redis says
``finishing``  removing what has moved from where it was
"""
