"""``python -m sinapse.cli.companion PROCESS OPTIONS``: the daemon, for as long as a process lives.

So a development server has a daemon that ends with it, even if it is killed. `PROCESS` is its
number, and the rest is as for ``sinapse serve``.
"""

import os
import signal
import sys
import threading

from sinapse.child import wait_for_end
from sinapse.cli.serve import run


def _end_with(process: int) -> None:
    wait_for_end(process)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=(int(sys.argv[1]),), daemon=True).start()
    run(sys.argv[2:])
