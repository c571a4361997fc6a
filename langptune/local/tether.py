"""Run a command that ends with its parent: `python tether.py PARENT_PID COMMAND...`.

On Linux the kernel sends the command SIGTERM when the process that started it dies, however it dies (PR_SET_PDEATHSIG, which
survives exec). A script of its own, because code between fork and exec is not safe in a process that has threads. Elsewhere it
only runs the command.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Become `command`; end at once if `parent` is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            raise SystemExit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
