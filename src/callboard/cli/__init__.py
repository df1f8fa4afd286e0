"""The command line: each command starts a deployment, or talks to one through `callboard.client`.

`program` runs a command line, `commands` lists the commands, `exits` says what the exit codes mean. Modules of commands are
imported when their command is used, and import what is heavy when they need it: `callboard submit` in a shell's loop must
not wait for what it does not use.
"""

from callboard.cli.program import main

__all__ = ["main"]
