"""Operations by way of the HTTP API of a daemon, in the place of Redis: see ``docs/api.md``.

The API checks what it is sent as the library does, and says of each failure whether it can have
been done all the same; so everything that is raised is what Redis would have led to.

``requests``     what each operation is for the API
``connections``  connections, and what carries operations out
"""
