"""Management commands.

``sinapse_token``    make, show and revoke tokens
``sinapse_publish``  publish a message
``sinapse_listen``   show what is pushed to a browser
"""
