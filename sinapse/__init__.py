"""Push messages from a Python backend to browsers.

The daemon is ``twistd sinapse`` (:mod:`sinapse.service`); applications publish with
:mod:`sinapse.publisher`. ``docs/design.md`` names the reading order.
"""

__version__ = "1.0.0rc1"
