"""Becomes the command it is given, which is asked to end when whoever started it has ended, however that ended.

    python bound.py PARENT COMMAND…

To be run as a file. In the child of a process that has threads, as those with gRPC have, only an exec is safe, so what
has to be said to the kernel before the command begins is said by a program of its own. Linux only.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Does not return."""
    parent, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit("the process that started this has ended")  # before its end could be asked about
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
