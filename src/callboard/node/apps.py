"""Finding the user's app: `MODULE:APP`, looked for in the working directory first.

Only nodes import user code, never the agent. Called before the node's loop begins.
"""

from __future__ import annotations

import importlib
import sys
import traceback

from callboard import app, errors

BUILTIN = "callboard.builtin:app"
"""What is served when no app is named."""


def load(name: str | None, directory: str) -> app.Callboard:
    """Import `MODULE:APP` and return the app. Raises AppNotFound, one line; the traceback of a failed import goes to the log."""
    module_name, colon, attribute = (name or BUILTIN).partition(":")
    if not colon or not module_name or not attribute:
        raise errors.AppNotFound(f"app {name!r} is not written MODULE:APP, like images:app for the name 'app' in images.py")
    if directory not in sys.path:
        sys.path.insert(0, directory)
    found: object
    try:
        found = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        if not _is_missing(error, module_name):
            traceback.print_exc()
        raise errors.AppNotFound(
            f"app {name!r} cannot be imported from {directory}: {type(error).__name__}: {_one_line(error)}: {_mend(error)}"
        ) from None
    if not isinstance(found, app.Callboard):
        raise errors.AppNotFound(f"app {name!r} is a {type(found).__name__}, not a Callboard: name what Callboard(...) returned")
    return found


def _mend(error: BaseException) -> str:
    if isinstance(error, errors.CallboardError):
        return "mend what is declared there"
    return "name an importable module and what is in it"


def _is_missing(error: BaseException, module_name: str) -> bool:
    """Tell whether the named module itself is what could not be found: then a traceback says nothing more."""
    return isinstance(error, ModuleNotFoundError) and error.name is not None and f"{module_name}.".startswith(f"{error.name}.")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or "no message"
