"""The public surface: what can be imported, and that everything it consists of is told in the reference."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cyclopts
import pytest

import callboard
from callboard import client, errors, settings
from callboard.cli import commands, exits
from callboard.jobs import queue
from callboard.jobs.engines import memory
from callboard.roles import gateway
from callboard.roles.gateway import docs, problems, site

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text()


def test_the_reference_is_as_the_program_is():
    ended = subprocess.run([sys.executable, "tools/reference.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, f"run 'make docs' for {ended.stdout or ended.stderr}"


def test_the_names_of_callboard():
    names = ["Call", "Callboard", "CallboardError", "Cancelled", "Client", "Context", "Discard", "JobHandle", "RetryLater"]
    names += ["ServiceError", "SyncClient", "method"]
    assert callboard.__all__ == names
    assert {name: getattr(callboard, name) for name in callboard.__all__}
    assert set(callboard.__all__) <= set(dir(callboard))
    with pytest.raises(AttributeError, match="no attribute 'Nobody'"):
        getattr(callboard, "Nobody")  # noqa: B009 - type checkers would see it too


def test_type_checkers_see_the_names_of_callboard_where_they_are():
    stub = ast.parse(Path(callboard.__file__).with_suffix(".pyi").read_text())
    told = {alias.name: each.module for each in stub.body if isinstance(each, ast.ImportFrom) for alias in each.names}
    listed = [ast.literal_eval(each.value) for each in stub.body if isinstance(each, ast.Assign)]
    assert listed == [callboard.__all__]
    assert told == callboard._MODULES


@pytest.mark.parametrize("code", ["import callboard", "from callboard.cli import program; program.run(['--help'])"])
def test_what_starts_often_loads_little(code: str):
    heavy = "{'aiohttp', 'litestar', 'uvicorn', 'structlog', 'apsw', 'asyncio'}"
    code = f"import sys; {code}; sys.stderr.write(repr({heavy} & sys.modules.keys()))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr == "set()"


def test_the_names_of_the_client():
    assert client.__all__ == ["Client", "Options", "SyncClient"]
    assert {name: getattr(client, name) for name in client.__all__}


def test_a_sync_client_can_do_what_an_async_one_can():
    able = {name for name, _ in inspect.getmembers(client.Client) if not name.startswith("_")}
    assert able - {name for name, _ in inspect.getmembers(client.SyncClient)} == {"close", "watch"}


def test_public_names_are_documented():
    told = page("python")
    assert not [name for name in (*callboard.__all__, *client.__all__) if f"### {name}\n" not in told]


# Errors


def test_every_error_is_documented_with_its_statuses():
    rows = {row[0]: row for row in _rows(page("errors"))}
    for error in every_error():
        status = problems.status_of(error("x"))
        row = rows[f"`{error.code}`"]
        assert f"`{error.__name__}`" in row
        assert str(exits.of(error("x")).value) in row
        assert status == 500 or str(status) in row


def test_every_error_is_drawn_in_the_tree_of_its_module():
    drawn = dict(re.findall(r"── (\w+)\s+(\w+)  ", errors.__doc__ or ""))
    bases = {errors.CallboardError, errors.StoreError, errors.BrokerError, errors.StartupError, errors.CoordinationError}
    assert drawn == {error.__name__: error.code for error in every_error() if error not in bases}


def test_codes_are_one_an_error():
    codes = [error.code for error in every_error()]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch("[a-z_]+", code) for code in codes)


def test_every_exit_code_is_documented():
    assert exits.MEANINGS.keys() == set(exits.Exit)
    rows = _rows(page("exit-codes"))
    for code in exits.Exit:
        assert [str(code.value), code.name.lower(), exits.MEANINGS[code]] in rows


# Settings


def test_every_setting_is_documented_with_its_variable():
    told = page("settings")
    for name in settings.fields():
        assert f"`{name}`" in told
        assert f"`{settings.PREFIX}{name.replace('.', '_').upper()}`" in told


# The command line


def test_every_command_and_option_is_documented():
    told = page("cli")
    for name, command in every_command():
        section = told.partition(f"### callboard {name}\n")[2].partition("\n### ")[0]
        assert section, f"callboard {name} is not there"
        missing = [option for option in options(command) if not re.search(rf"{re.escape(option)}\b", section)]
        assert not missing, f"callboard {name}: {', '.join(missing)}"


def test_every_option_says_what_it_is_for():
    """`--json` says it by its name."""
    dumb = [
        f"{name} {argument.names[0]}"
        for name, command in every_command()
        for argument in command.assemble_argument_collection()
        if argument.show and not argument.parameter.help and argument.names[0] != "--json"
    ]
    assert dumb == []


def test_every_command_can_answer_in_json():
    assert [name for name, command in every_command() if "--json" not in options(command)] == []


# HTTP


def test_every_route_is_documented_with_its_parameters():
    told = page("http")
    for method, path, operation in every_route():
        section = told.partition(f"### {method} {path}\n")[2].partition("\n### ")[0]
        assert section, f"{method} {path} is not there"
        query = [given["name"] for given in operation.get("parameters", ()) if given["in"] == "query"]
        assert [name for name in query if f"?{name}=" not in section] == []


def test_routes_are_those_that_were_promised():
    assert {(method, path) for method, path, _ in every_route()} == {
        ("POST", "/v1/jobs"),
        ("POST", "/v1/jobs/batch"),
        ("POST", "/v1/jobs/wait"),
        ("GET", "/v1/jobs"),
        ("GET", "/v1/jobs/{job_id}"),
        ("POST", "/v1/jobs/{job_id}/cancel"),
        ("POST", "/v1/jobs/{job_id}/retry"),
        ("GET", "/v1/queues"),
        ("POST", "/v1/queues/{queue_name}/pause"),
        ("POST", "/v1/queues/{queue_name}/resume"),
        ("POST", "/v1/call/{name}/{method}"),
        ("POST", "/v1/call/{name}/{incarnation}/{method}"),
        ("POST", "/v1/broadcast"),
        ("GET", "/v1/nodes"),
        ("GET", "/v1/view"),
        ("POST", "/v1/nodes/{incarnation}/drain"),
        ("GET", "/v1/servers"),
        ("POST", "/v1/servers/{server}/drain"),
        ("DELETE", "/v1/servers/{server}/drain"),
        ("POST", "/v1/servers/{server}/renew"),
        ("GET", "/v1/names"),
        ("GET", "/v1/names/{name}/ping"),
        ("GET", "/v1/names/{name}/{incarnation}/ping"),
        ("POST", "/v1/names/{name}/move"),
        ("GET", "/v1/keys"),
        ("POST", "/v1/keys"),
        ("DELETE", "/v1/keys/{key_id}"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
    }


def every_error() -> list[type[errors.CallboardError]]:
    found = [errors.CallboardError]
    for each in found:
        found += [below for below in each.__subclasses__() if below.__module__ == errors.__name__]
    return found


def every_command() -> Iterator[tuple[str, cyclopts.App]]:
    root = commands.build()
    for name, *_ in commands.COMMANDS:
        yield name, root[name]
    for first, *_, names in commands.GROUPS:
        for name, *_ in names:
            yield f"{first} {name}", root[first][name]


def options(command: cyclopts.App) -> list[str]:
    """The names by which options are shown: no negations, no placeholders."""
    found = [name for argument in command.assemble_argument_collection() if argument.show for name in argument.names]
    return [name for name in found if name != "*" and not name.startswith(("--no-", "--empty-"))]


def every_route() -> Iterator[tuple[str, str, dict[str, Any]]]:
    async def nobody() -> list[Any]:
        return []

    made = gateway.Gateway(queue.Queue(memory.open("memory:")), {}, "127.0.0.1", 0, nobody)
    application = site.build(made._desk)
    for path, operations in docs.completed(application, application.openapi_schema.to_schema())["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path, operation


def _rows(text: str) -> list[list[str]]:
    """The cells of all tables of a page."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
