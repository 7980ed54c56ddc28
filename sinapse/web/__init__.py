"""HTTP: requests that are bounded, and short answers.

``site``       the HTTP server, and what all its connections share
``request``    a request, over HTTP/1 or HTTP/2
``http1``      HTTP/1: a connection, with deadlines and limits
``http2``      HTTP/2: one connection for many exchanges
``exchange``   one request over HTTP/2, and its answer
``head``       the head of a request that came whole, read at once
``intake``     what a client sends, in parts, at a limited rate
``limits``     how much a request may be
``answers``    short plain answers, and what every answer says to browsers
``cors``       which origins may connect
``encodings``  whether a client takes gzip
``faults``     our own faults, logged at a bounded rate
"""
