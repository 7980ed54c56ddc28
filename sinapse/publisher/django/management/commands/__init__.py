"""Management commands.

``sinapse_token``    make, show and revoke tokens
``sinapse_publish``  publish a message
``sinapse_relay``    send what waits in the outbox
``sinapse_listen``   show the messages that a browser would receive
"""
