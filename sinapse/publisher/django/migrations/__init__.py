"""Changes of the tables.

``0001_outbox``  the table of the outbox
"""
