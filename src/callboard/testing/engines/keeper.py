"""`python -m callboard.testing.engines.keeper DIRECTORY`: waits for its owner's end, then clears what that has left.

The owner holds the other end of its standard input, and never writes: the end of it is the owner's end, however it came.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from callboard.testing.engines import ground

if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    ground.clear(Path(sys.argv[1]))
