"""What can be configured: declared once, for the command line, the environment and ``--help``.

The command line wins over the environment. A bad value ends the start with one line that names
the option, or the variable, and the value.

``settings``    the options: what each is called, means and is by default
``option``      what an option is, and how one is declared
``values``      what is read from the text of an option
``resolution``  settings from the command line and the environment
"""

from sinapse.settings.option import Option
from sinapse.settings.resolution import is_link, resolve
from sinapse.settings.settings import OPTIONS, Settings, groups

__all__ = ["OPTIONS", "Option", "Settings", "groups", "is_link", "resolve"]
