"""How a run with several workers is shared out: the whole stack to one of them, first; to the others file by file.

The stack is one server for many files, and what is measured through it should not have a second one beside it. It waits
more than it computes, so the rest has a core meanwhile. Knows only the names of files.
"""

from xdist.scheduler import LoadFileScheduling

STACK = "tests/stack/"


class StackApart(LoadFileScheduling):
    """Gives a worker a file at a time, and all files of the stack to the same; in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return STACK if nodeid.startswith(STACK) else super()._split_scope(nodeid)
