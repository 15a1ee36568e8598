"""Brings to the console those lines of tritonserver's log that tell the user something, as they are written.

Only reads the file: a console that is held up never holds up the server. Does not know who writes it.
"""

import asyncio
import re
from pathlib import Path

POLL = 0.2
# Level, source file, message: E1124 06:06:38.186829 4797 server.cc:241] "…"
TRITON_LINE = re.compile(r'^([IWE])\d{4} [\d:.]+ \d+ (\S+):\d+\] "?(.*?)"?$')
# What a healthy server says: at every start without a GPU, and at many a cancelled stream.
HARMLESS = (
    "CudaDriverHelper has not been initialized",
    "Error: Failed to initialize NVML",
    "HandleCancellation called even when the context was not cancelled",
)
TABLE = ("|", "+-")


async def follow(log: Path) -> None:
    """Prints the useful lines of a growing file. Ends only by being cancelled."""
    with log.open(errors="replace") as lines:
        pending = ""
        while True:
            pending += lines.readline()
            if pending.endswith("\n"):
                if (message := useful_part(pending.rstrip("\n"))) is not None:
                    print(f"triton: {message}", flush=True)
                pending = ""
            else:
                await asyncio.sleep(POLL)


def useful_part(line: str) -> str | None:
    """What of a line of the log is worth showing; None when nothing is.

    That is: errors, whatever the model's own code logs or prints, and nothing that only describes the server.
    """
    if not line.strip() or line.startswith(TABLE) or any(known in line for known in HARMLESS):
        return None
    parsed = TRITON_LINE.match(line)
    if parsed is None:
        return line
    level, source, message = parsed.groups()
    if level == "E" or source.endswith(".py"):
        return message
    return None
