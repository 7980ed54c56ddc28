"""The HTTP API: what the library does, for backends that do not use Redis.

It is an endpoint of its own, for backends and never for browsers: anyone who has a key can publish
to every channel, and make a token for every subject.

``service``    its endpoint, its keys, its connections to Redis
``keys``       who may use it
``resource``   its URLs
``endpoints``  the table of them
``call``       a request of one of them, checked
``actions``    what each of them does
``bodies``     what is sent to it and comes back
``openapi``    the document that describes it
"""
