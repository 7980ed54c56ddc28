"""What the integrations have in common, whichever framework it is.

``options``   what is read from the settings of a framework
``page``      what a page needs to open its stream
``prepared``  messages that are checked now and sent later
"""
