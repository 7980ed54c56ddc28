"""The HTTP API: what the library does, for backends that do not speak to Redis.

It is an endpoint of its own, for backends and never for browsers: whoever has a key may publish to
every channel and make tokens for everybody.
"""
