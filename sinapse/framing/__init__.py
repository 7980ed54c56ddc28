"""Messages as bytes, without any I/O.

``eventstream``  an event stream, in chunks or not
``websocket``    text frames of a WebSocket
``deflate``      bytes compressed once for all streams
``jsonmessage``  a message as JSON, and the list of a long poll
``partial``      what one of several Redis gives, completed for each stream
"""
