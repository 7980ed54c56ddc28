"""Moving channels between several Redis while everything runs: see ``docs/sharding.md``.

``parties``    the Redis, and the one who moves
``copying``    the rights to what moves
``finishing``  removing them from where they were
"""
