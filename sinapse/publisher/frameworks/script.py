"""The JavaScript client, for pages: one file, which is a module.

It is where Django looks for the static files of an application, and the others are told. It is
built of ``clients/js`` by ``make client``.
"""

from pathlib import Path
from typing import Final

#: The folder of the file; its path below one with static files is ``sinapse/sinapse.js``.
FOLDER: Final = Path(__file__).parents[1] / "django" / "static" / "sinapse"

NAME: Final = "sinapse.js"

#: What a browser must be told so that it runs a module (RFC 9239).
TYPE: Final = "text/javascript"
