"""What it is all for: open streams, from the request to the last byte.

``resource``       the URL of streams
``streams``        the open streams of a node: opened, expired, drained
``stream``         what every open stream has
``connection``     one open stream: live or behind, bounded
``longpoll``       a stream that ends with its first answer
``handshake``      the opening of a WebSocket
``websocketpeer``  what the client of a WebSocket sends
``keepalive``      bytes for streams that are quiet
``backlog``        what waits to be written, and the most that may
``drain``          whose turn it is when all streams are ended
``limits``         how many streams there may be
"""
