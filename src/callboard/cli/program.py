"""Runs one command and ends with its exit code. Every error is one line on standard error; people see no tracebacks.

`python -X dev -m callboard.cli ...` shows the traceback of what nobody expected.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import cyclopts

from callboard import errors
from callboard.cli import commands, exits, output

UNEXPECTED = "internal_error"
"""The code shown for an error that is a fault of Callboard's own."""


def main() -> NoReturn:
    """The `callboard` command."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a pipe has had enough. The interpreter must not try again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(tokens: Sequence[str]) -> int:
    """Run a command line; return its exit code."""
    try:
        _check_text(tokens)
        returned = commands.build(tokens)(list(tokens))
        return int(returned or exits.Exit.OK)
    except cyclopts.CycloptsError as error:
        return refuse(errors.InvalidInput(f"{_misused(error)}: see 'callboard --help'"))
    except errors.CallboardError as error:
        return refuse(error)
    except KeyboardInterrupt:
        return exits.Exit.INTERRUPTED
    except BrokenPipeError:
        return exits.Exit.OK
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        output.complain(f"unexpected {type(error).__name__}: {error}: this is a fault of Callboard's own", UNEXPECTED)
        return exits.Exit.FAILED


def refuse(error: errors.CallboardError) -> exits.Exit:
    """Say what went wrong; return the exit code for it."""
    output.complain(error.message, error.code)
    return exits.of(error)


def _misused(error: cyclopts.CycloptsError) -> str:
    if isinstance(error, cyclopts.UnknownCommandError) and error.unused_tokens:
        # Its own text would import the modules of all commands.
        known = [name for name in error.app or () if not name.startswith("-")]
        near = difflib.get_close_matches(error.unused_tokens[0], known, n=1) or [f"one of {', '.join(known)}"]
        return f"{error.unused_tokens[0]!r:.60} is not a command: did you mean {near[0]}?"
    return str(error).rstrip(".")


def _check_text(tokens: Sequence[str]) -> None:
    for token in tokens:
        if not token.isascii():
            try:
                token.encode()
            except UnicodeEncodeError:
                raise errors.InvalidInput(f"the argument {token!r:.60} is not text in UTF-8") from None
