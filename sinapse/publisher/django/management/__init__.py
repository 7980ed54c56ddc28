"""What ``manage.py`` can do.

``arguments``  the subject of a command
``commands``   the commands
"""
