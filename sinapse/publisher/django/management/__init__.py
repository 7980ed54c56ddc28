"""What ``manage.py`` can do.

``arguments``  whom commands mean
``commands``   the commands
"""
