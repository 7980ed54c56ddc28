"""Template tags.

``sinapse``  ``{% load sinapse %}``
"""
