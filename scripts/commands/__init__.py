"""The commands behind the executables of scripts/. Each has a module with a main(); what they share is beside.

A command that cannot go on raises CommandFailed; only main() prints it, as one line, and exits with 1.
"""


class CommandFailed(Exception):
    """What the user asked for cannot be done; the message is the one line that is shown."""
