"""Open streams, from the request to the last byte.

``resource``             the URL of streams
``wishes``               what a request asks for
``streams``              the open streams of a node: opened, moved on, drained
``expiry``               the end of a stream with its token
``stream``               what all open streams have in common
``takeover``             the moment in which a request becomes a stream
``connection``           one open stream: live or behind, bounded
``socketconnection``     such a one over a plain socket
``transportconnection``  such a one over TLS or HTTP/2
``pending``              the frames that wait for one stream
``longpoll``             a stream that ends with its first answer
``handshake``            the opening of a WebSocket
``websocketpeer``        what the client of a WebSocket sends
``keepalive``            bytes for streams that are quiet
``backlog``              bytes that wait to be written, and their limit
``drain``                the order in which all streams are ended
``limits``               how many streams there may be
``admissions``           how many tokens are looked up at the same time
"""
