"""The documentation that a gateway serves of itself: OpenAPI at /docs/openapi.json, and a page for people at /docs.

The framework describes routes, parameters and most answers; bodies that routes read as bytes, errors and keys are added here.
The page needs nothing from elsewhere: no script, no font, no other host.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any, Final

import msgspec
from litestar import Litestar, Request
from litestar.enums import OpenAPIMediaType
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.routes import HTTPRoute

from callboard.http import shapes

_METHODS: Final = ("get", "post", "put", "delete")
_STYLE: Final = """<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2733}
code,pre{font:14px/1.4 ui-monospace,monospace}pre{background:#f3f5f7;padding:.8rem;overflow:auto}
section{border-top:1px solid #d5dbe1;padding:.6rem 0}h2{font-size:1rem;margin:.4rem 0}
td,th{padding:.1rem 1rem .1rem 0;text-align:left}
</style>"""


class Json(OpenAPIRenderPlugin):
    """The OpenAPI document."""

    def __init__(self) -> None:
        super().__init__(path="/openapi.json", media_type=OpenAPIMediaType.OPENAPI_JSON)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return msgspec.json.encode(completed(request.app, openapi_schema), enc_hook=str)


class Page(OpenAPIRenderPlugin):
    """The page for people."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return "".join(_page(completed(request.app, openapi_schema))).encode()


CONFIG: Final = OpenAPIConfig(
    title="Callboard",
    version="1",
    description="Durable jobs: submit, wait, list, cancel, retry; named services: call, broadcast."
    " Errors are problem documents (RFC 9457) with a stable code.",
    path="/docs",
    render_plugins=[Page(), Json()],
)


def completed(app: Litestar, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the framework's description with bodies, scopes and errors; `schema` itself is completed, once."""
    components = schema.setdefault("components", {})
    if "securitySchemes" in components:
        return schema
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": "An API key, `cb_...`."}}
    schemas = components.setdefault("schemas", {})
    problem = _reference(shapes.Problem, schemas)
    for operation, opt in _operations(app, schema):
        responses = operation["responses"]
        responses.pop("400", None)
        responses["default"] = {"description": "What went wrong", "content": {"application/problem+json": {"schema": problem}}}
        if "scope" in opt:
            operation["security"] = [{"key": []}]
            operation["description"] = f"{operation.get('description', '')} Needs a key with the scope `{opt['scope']}`.".strip()
        if "body" in opt:
            operation["requestBody"] = {"required": True, "content": _json_of(opt["body"], schemas)}
        if "returns" in opt:
            next(iter(responses.values()))["content"] = _json_of(opt["returns"], schemas)
    return schema


def _operations(app: Litestar, schema: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for route in app.routes:
        path = schema["paths"].get(route.path_format)
        if path is not None and isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                for method in handler.http_methods:
                    if method.lower() in path:
                        yield path[method.lower()], dict(handler.opt)


def _json_of(shape: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": _reference(shape, schemas)}}


def _reference(shape: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    (reference,), found = msgspec.json.schema_components([shape], ref_template="#/components/schemas/{name}")
    for name, described in found.items():
        schemas.setdefault(name, described)
    return reference


def _page(schema: dict[str, Any]) -> Iterator[str]:
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>Callboard API</title>{_STYLE}<h1>Callboard API</h1>"
    yield f"<p>{escape(schema['info']['description'])} The same for programs: <a href=/docs/openapi.json>openapi.json</a>.</p>"
    for path, operations in sorted(schema["paths"].items()):
        for method in _METHODS:
            if method in operations:
                yield from _section(method, path, operations[method])
    yield "<h1>Shapes</h1>"
    for name, shape in sorted(schema["components"]["schemas"].items()):
        yield f"<section id={escape(name)}><h2>{escape(name)}</h2>{_pre(shape)}</section>"
    yield "</html>"


def _section(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<section><h2><code>{method.upper()} {escape(path)}</code> {escape(operation.get('summary', ''))}</h2>"
    yield f"<p>{escape(operation.get('description', ''))}</p>"
    rows = [
        f"<tr><td><code>{escape(given['name'])}</code><td>{given['in']}<td>{escape(given.get('description', ''))}"
        for given in operation.get("parameters", ())
    ]
    if rows:
        yield f"<table><tr><th>parameter<th>in<th>{''.join(rows)}</table>"
    if "requestBody" in operation:
        yield f"<p>Body: {_link(operation['requestBody'])}</p>"
    for status, response in operation["responses"].items():
        if status != "default":
            yield f"<p>{escape(status)}: {_link(response)}</p>"
    yield "</section>"


def _link(part: dict[str, Any]) -> str:
    for content in part.get("content", {}).values():
        name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
        if name:
            return f"<a href=#{escape(name)}>{escape(name)}</a>"
    return escape(part.get("description", ""))


def _pre(shape: dict[str, Any]) -> str:
    return f"<pre>{escape(msgspec.json.format(msgspec.json.encode(shape, enc_hook=str), indent=2).decode())}</pre>"
