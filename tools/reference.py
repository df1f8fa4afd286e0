"""Writes the generated parts of docs/reference: what the program itself says of its settings, errors, commands, routes and API.

    python tools/reference.py           write them
    python tools/reference.py --check   exit with 1 and name the pages that are not as the program is

A page is written by hand around its generated blocks, which stand between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import os
import re
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import callboard
from callboard import app, client, errors, settings
from callboard.cli import commands, exits
from callboard.cluster import reading
from callboard.http import shapes
from callboard.jobs import model, queue, submission
from callboard.jobs.engines import memory
from callboard.roles import gateway
from callboard.roles.gateway import docs, problems, site

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # So that it runs as a script, too.
from tools import engines, servers

ROOT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = ROOT / "docs" / "reference"
INNER: Final = frozenset({"attach", "call_through", "detach", "handlers", "services", "submission"})
"""Public methods that other rooms of the package call, not users."""
GIVEN: Final = frozenset({"Call", "Context", "JobHandle", "Submitted", "CallboardError"})
"""Classes whose instances users are given and do not make."""
_BLOCK: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

Lines = Iterator[str]


def settings_block() -> Lines:
    """A table of each group of settings."""
    described = _field_docs(Path(settings.__file__))
    groups: dict[str, list[str]] = {}
    for name in settings.fields():
        groups.setdefault(name.rpartition(".")[0], []).append(name)
    for group, names in groups.items():
        yield f"### {f'[{group}]' if group else 'Top level'}"
        yield ""
        for name in names:
            variable = settings.PREFIX + name.replace(".", "_").upper()
            holder = f"{group.capitalize()}Settings" if group else "Settings"
            yield f"#### `{name}`"
            yield ""
            yield described[holder, name.rpartition(".")[2]]
            yield ""
            kind, default = settings.fields()[name]
            yield f"{_type(kind)}, default {_default(default)}. Environment: `{variable}`."
            yield ""


def cluster_block() -> Lines:
    """The keys of a cluster's file, and where which setting may stand in it."""
    for title, keys in (("At the top", reading.TOP), ("In the table of a server", reading.SERVER)):
        yield f"### {title}"
        yield ""
        for key, meaning in keys.items():
            yield f"- `{key}`: {meaning}"
        yield ""
    yield "### Settings"
    yield ""
    yield "Every [setting](settings.md) may stand at the top, in the table of a site and in that of a server, but for these:"
    yield ""
    yield "| setting | at the top | of a site | of a server |"
    yield "|---|---|---|---|"
    for name in settings.fields():
        said = [reading.ELSEWHERE[kind].get(name) for kind in ("top", "site", "server")]
        if any(said):
            yield f"| `{name}` | {' | '.join(why or 'yes' for why in said)} |"


def errors_block() -> Lines:
    """A table of all errors."""
    yield "| code | class | retry | HTTP | exit | raised when |"
    yield "|---|---|---|---|---|---|"
    for error in sorted(_below(errors.CallboardError), key=lambda each: each.code):
        meaning = (inspect.getdoc(error) or "").partition("\n")[0].removeprefix("Raised when ").removeprefix("Raised ")
        made = error("")
        retry = "may help" if error.retryable else "no"
        status = problems.status_of(made)
        shown = "" if status == 500 else status  # Not an answer of the API.
        yield f"| `{error.code}` | `{error.__name__}` | {retry} | {shown} | {exits.of(made).value} | {meaning} |"


def reasons_block() -> Lines:
    """The words in a job's `reason`."""
    described = _field_docs(Path(model.__file__))
    for name, value in vars(model.Reason).items():
        if not name.startswith("_"):
            said = described.get(("Reason", name), "")
            yield f"- `{value}`{f': {said[0].lower()}{said[1:]}' if said else ''}"


def exits_block() -> Lines:
    """A table of the exit codes."""
    yield "| code | name | meaning |"
    yield "|---|---|---|"
    for code, meaning in exits.MEANINGS.items():
        yield f"| {code.value} | {code.name.lower()} | {meaning} |"


def cli_block() -> Lines:
    """What each command says of itself."""
    grouped = [(first, name) for first, *_, inner in commands.GROUPS for name, *_ in inner]
    names = [*((name,) for name, *_ in commands.COMMANDS), *grouped]
    for name in names:
        yield f"### callboard {' '.join(name)}"
        yield ""
        yield "```text"
        yield _help(name)
        yield "```"
        yield ""


def http_block() -> Lines:
    """Routes, as the running application describes them."""
    schema = openapi()
    for path, operations in sorted(schema["paths"].items()):
        for method, operation in operations.items():
            yield f"### {method.upper()} {path}"
            yield ""
            yield f"{operation['summary']}. {operation.get('description', '')}".replace("?.", "?").strip()
            yield ""
            yield from _operation(operation)
            yield ""


def shapes_block() -> Lines:
    """The shapes of bodies, field by field."""
    said = _field_docs(Path(shapes.__file__)) | _field_docs(Path(submission.__file__))
    for name, shape in sorted(openapi()["components"]["schemas"].items()):
        above, inherited = _above(name)
        meaning = shape.get("description") or vars(getattr(shapes, name, object)).get("__doc__") or ""
        yield f"### {name}"
        yield ""
        if meaning or above:
            yield " ".join([*meaning.split(), f"All of [{above}](#{above.lower()}), and:" if above else ""]).strip()
            yield ""
        for field, described in shape.get("properties", {}).items():
            if field not in inherited:
                optional = "" if field in shape.get("required", ()) else ", may be left out"
                meaning = said.get((name, field), "")
                yield f"- `{field}`: {_json_type(described)}{optional}{f'. {meaning}' if meaning else ''}"
        yield ""


def api_block() -> Lines:
    """The public names with their signatures and docstrings."""
    for module in (callboard, client):
        yield f"## {module.__name__}"
        yield ""
        for name in module.__all__:
            yield from _documented(name, getattr(module, name))
        if module is callboard:
            yield from _documented("Submitted", app.Submitted)


def openapi() -> dict[str, Any]:
    """Return the OpenAPI document of a gateway's application."""

    async def nobody() -> list[Any]:
        return []

    made = gateway.Gateway(queue.Queue(memory.open("memory:")), {}, "127.0.0.1", 0, nobody)
    application = site.build(made._desk)
    return docs.completed(application, application.openapi_schema.to_schema())


BLOCKS: Final[dict[str, Callable[[], Lines]]] = {
    "settings": settings_block,
    "cluster": cluster_block,
    "errors": errors_block,
    "reasons": reasons_block,
    "exits": exits_block,
    "cli": cli_block,
    "http": http_block,
    "shapes": shapes_block,
    "api": api_block,
    "engines": engines.lines,
    "bridge": engines.bridge,
    "servers": servers.lines,
}


def written(text: str) -> str:
    """Return a page's text with its generated blocks as they should be."""
    return _BLOCK.sub(lambda found: found[1] + "\n" + "\n".join(BLOCKS[found[2]]()).strip() + "\n\n" + found[3], text)


def main(arguments: list[str]) -> int:
    """Write the pages, or check them."""
    stale = 0
    for page in sorted(PAGES.glob("*.md")):
        before = page.read_text()
        after = written(before)
        if before != after:
            stale += 1
            print(page.relative_to(ROOT))
            if "--check" not in arguments:
                page.write_text(after)
    return 1 if stale and "--check" in arguments else 0


def _below(root: type[errors.CallboardError]) -> list[type[errors.CallboardError]]:
    """Return the errors of the tree that `callboard.errors` itself declares."""
    found = [root]
    for each in found:
        found += [below for below in each.__subclasses__() if below.__module__ == errors.__name__]
    return found


def _field_docs(file: Path) -> dict[tuple[str, str], str]:
    """Return the texts under the fields of a module's classes, by (class, field)."""
    found = {}
    for group in ast.parse(file.read_text()).body:
        if isinstance(group, ast.ClassDef):
            for field, text in zip(group.body, group.body[1:], strict=False):
                target = (
                    field.target
                    if isinstance(field, ast.AnnAssign)
                    else field.targets[0]
                    if isinstance(field, ast.Assign)
                    else None
                )
                if isinstance(target, ast.Name) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                    found[group.name, target.id] = " ".join(str(text.value.value).split())
    return found


def _type(annotation: Any) -> str:
    text = re.sub(r"typing\.Annotated\[([\w.]+), msgspec\.Meta\(([^)]*)\)\]", _ranged, str(annotation))
    text = re.sub(r"<class '(\w+)'>", r"\1", text).replace("typing.", "").replace(" | None", "")
    text = re.sub(r"^Optional\[(.*)\]$", r"\1", text)
    return f"`{text}`"


def _ranged(found: re.Match[str]) -> str:
    signs = {"ge": ">=", "le": "<=", "gt": ">", "lt": "<"}
    bounds = [tuple(bound.split("=")) for bound in found[2].split(", ")]
    shown = [f"{signs[name]} {float(value):,.10g}" for name, value in bounds if name in signs]
    return f"{found[1]}{f' ({chr(44).join(shown)})' if shown else ''}".replace(",>", ", >").replace(",<", ", <")


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        return f"`{list(value)}`".replace("'", '"')
    return "none" if value is None else f"`{value}`"


def _help(name: tuple[str, ...]) -> str:
    said = io.StringIO()
    os.environ["COLUMNS"] = "140"
    with contextlib.redirect_stdout(said):
        commands.build(name)([*name, "--help"])
    return "\n".join(line.rstrip() for line in said.getvalue().strip().splitlines())


def _operation(operation: dict[str, Any]) -> Lines:
    for given in operation.get("parameters", ()):
        if given["in"] == "query":
            shape = given.get("schema", {})
            said = given.get("description") or ""
            default = f" Default: {shape['default']}." if shape.get("default") is not None else ""
            yield f"- `?{given['name']}=` {_json_type(shape)}. {said}{default}".rstrip()
    if "requestBody" in operation:
        yield f"- body: {_content(operation['requestBody'])}"
    for status, response in operation["responses"].items():
        if status != "default":
            yield f"- {status}: {_content(response)}"


def _content(part: dict[str, Any]) -> str:
    for media, content in part.get("content", {}).items():
        shape = content.get("schema", {})
        return _json_type(shape) if shape and "$ref" in shape else f"`{media}`"
    return str(part.get("description", ""))


def _above(name: str) -> tuple[str, frozenset[str]]:
    """Return the shape that a shape extends, with its fields; "" for none."""
    for base in getattr(shapes, name, object).__mro__[1:]:
        if base.__module__ == shapes.__name__:
            return base.__name__, frozenset(getattr(base, "__struct_fields__", ()))
    return "", frozenset()


def _json_type(shape: dict[str, Any]) -> str:
    if "$ref" in shape:
        name = shape["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf"):
        if several in shape:
            return " or ".join(dict.fromkeys(_json_type(each) for each in shape[several]))
    if shape.get("type") == "array":
        return f"list of {_json_type(shape.get('items', {}))}"
    if shape.get("type") == "object" and shape.get("additionalProperties"):
        return f"mapping of {_json_type(shape['additionalProperties'])}"
    if isinstance(shape.get("type"), list):
        return " or ".join(shape["type"])
    form = {"date-time": "time (RFC 3339)"}.get(shape.get("format", ""))
    return form or str(shape.get("type", "any"))


def _documented(name: str, thing: Any) -> Lines:
    yield f"### {name}"
    yield ""
    if inspect.isfunction(thing) or (inspect.isclass(thing) and name not in GIVEN and not hasattr(thing, "__total__")):
        yield from _code(f"{name}{_signature(thing)}")
    yield _paragraphs(thing)
    yield ""
    if inspect.isclass(thing) and hasattr(thing, "__total__"):
        yield f"Fields, all optional: {', '.join(f'`{field}`' for field in thing.__annotations__)}."
        yield ""
    for field in getattr(thing, "__struct_fields__", ()):
        meaning = _field_docs(Path(inspect.getfile(thing))).get((name, field), "")
        yield f"- `{name}.{field}`{f': {meaning}' if meaning else ''}"
    if hasattr(thing, "__struct_fields__"):
        yield ""
    if inspect.isclass(thing) and thing.__module__.startswith(callboard.__name__):
        for method, function in _members(thing).items():
            if not method.startswith("_") and method not in INNER and callable(getattr(function, "fget", function)):
                yield from _method(name, method, function)


def _members(thing: type) -> dict[str, Any]:
    """Return what a class has of its own, and of bases that are parts of it: in its own room, and not for users."""
    room = thing.__module__.rpartition(".")[0]
    parts = [base for base in thing.__mro__ if base is thing or base.__module__.startswith(f"{room}.")]
    seen = [base for base in parts if base is thing or base.__name__ not in callboard.__all__]
    return {name: value for base in reversed(seen) for name, value in vars(base).items()}


def _method(owner: str, name: str, function: Any) -> Lines:
    if isinstance(function, property):
        yield f"**`{owner}.{name}`** {_paragraphs(function)}".strip()
        yield ""
        return
    asked = "async " if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function) else ""
    yield f"**`{asked}{owner}.{name}{_signature(function)}`**"
    yield ""
    yield _paragraphs(function)
    yield ""


def _code(text: str) -> Lines:
    yield "```text"
    yield text
    yield "```"
    yield ""


def _signature(thing: Any) -> str:
    """Return how a class or function is called; of several ways the last."""
    ways = typing.get_overloads(thing) if inspect.isfunction(thing) else []
    try:
        text = str(inspect.signature([thing, *ways][-1]))
    except ValueError:  # An exception without a constructor of its own.
        return "()"
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)
    return text.replace("(self, ", "(").replace("(self)", "()")


def _paragraphs(thing: Any) -> str:
    blocks = (inspect.getdoc(thing) or "").split("\n\n")
    return "\n\n".join(" ".join(block.split()) for block in blocks)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
