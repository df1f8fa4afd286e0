"""`python -m callboard.testing.engines install | list`: see `packages`."""

from __future__ import annotations

import sys

from callboard.testing.engines import packages

_COMMANDS = {"install": packages.install, "list": packages.show}

if __name__ == "__main__":
    command = _COMMANDS.get(sys.argv[1]) if len(sys.argv) == 2 else None
    if command is None:
        sys.exit("usage: python -m callboard.testing.engines install | list")
    sys.exit(command())
