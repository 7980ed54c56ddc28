"""What the integrations have in common, whichever framework it is.

``development``  the daemon of a development server
``device``       the session of a page's device
``options``      what is read from the settings of a framework
``page``         what a page needs to open its stream
``prepared``     messages that are checked now and sent later
``script``       the JavaScript client
"""
