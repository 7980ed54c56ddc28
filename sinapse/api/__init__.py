"""The HTTP API: what the library does, for backends that do not speak to Redis.

It is an endpoint of its own, for backends and never for browsers: whoever has a key may publish to
every channel and make tokens for everybody.

``service``    its endpoint, its keys, its connections to Redis
``keys``       who may use it
``resource``   its URLs
``endpoints``  what each of them does
``bodies``     what is sent to it and comes back
``openapi``    the document that describes it
"""
