"""The shape of a handler's or a method's arguments and of its result, from its annotations: checked, encoded, decoded.

Stored payloads are MessagePack and JSON-shaped (see `kit.codec`): times are text with an offset, enums their values, dataclasses
mappings. A shape is made once a handler, at its declaration, so that a job costs little: arguments are decoded by one
decoder straight into the values of the call.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, time
from typing import Any

import msgspec
from msgspec import inspect as shapes

from callboard import errors
from callboard.app import context
from callboard.kit import codec


class Lead(msgspec.Struct, frozen=True):
    """What a function may take first: given by whoever runs it, no argument."""

    kind: type
    name: str
    """How the parameter is known when it has no annotation."""


CONTEXT = Lead(context.Context, "ctx")
"""What handlers of jobs may take."""
EMPTY = b"\x80"
"""An encoded mapping without entries."""

_WRONG = Exception
"""What values that do not fit may raise: msgspec's errors, the codec's, and whatever a user's own `__post_init__` does."""
_UNCHANGED = (
    shapes.NoneType,
    shapes.BoolType,
    shapes.IntType,
    shapes.StrType,
    shapes.ListType,
    shapes.UnionType,
    shapes.LiteralType,
)
"""Types whose valid plain values are encoded as they are: nothing to convert, no NaN, no time."""
_DIRECT = (*_UNCHANGED, shapes.BytesType, shapes.EnumType, shapes.StructType, shapes.DataclassType)
"""Types that are encoded as they come, and checked by decoding them: nothing in them that only a payload refuses."""
_TIMES = (shapes.DateTimeType, shapes.TimeType)
_FORMLESS = (shapes.CustomType, shapes.ExtType, shapes.RawType)


class Arguments:
    """The named arguments of one handler or method. Immutable; used from any thread."""

    def __init__(self, name: str, function: Callable[..., Any], lead: Lead = CONTEXT, skipped: int = 0) -> None:
        """Read the function's parameters, the first `skipped` excepted (`self`). Raises InvalidInput for what it cannot have,
        such as `*args`."""
        self.name = name
        found = hints(name, function)
        parameters = list(inspect.signature(function).parameters.values())[skipped:]
        self.wants_context = bool(parameters) and _is_lead(parameters[0], found, lead)
        if self.wants_context:
            parameters = parameters[1:]
        fields = [_field(name, parameter, found, lead) for parameter in parameters]
        inner = _types((found.get(parameter.name, Any) for parameter in parameters), f"a parameter of {name}")
        self.names = tuple(parameter.name for parameter in parameters)
        self._named = tuple(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)
        self._required = any(parameter.default is parameter.empty for parameter in parameters)
        self._unchanged = all(isinstance(kind, _UNCHANGED) or _plain_mapping(kind) for kind in inner)
        self._timed = any(isinstance(kind, _TIMES) for kind in inner)
        self._timed_or_any = self._timed or any(isinstance(kind, shapes.AnyType) for kind in inner)
        self._struct = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
        self._decode = msgspec.msgpack.Decoder(self._struct).decode

    def encode(self, given: Mapping[str, Any]) -> bytes:
        """Return given arguments (JSON-shaped, or the handler's own types) encoded. Raises InvalidArguments.

        What is left out stays left out: the handler's defaults apply where it runs.
        """
        if not given and not self._required:
            return EMPTY
        values = self._convert(given)
        try:
            if self._unchanged:
                return codec.pack_trusted(given)
            if self._timed_or_any:
                check_times(values)
            plain = msgspec.to_builtins(values, builtin_types=(bytes,), str_keys=True)
            return codec.pack({key: plain[key] for key in given}, "args")
        except _WRONG as error:
            raise self._invalid(error) from None

    def decode(self, encoded: bytes) -> tuple[Any, ...]:
        """Return the values of all parameters, in their order. Raises InvalidArguments."""
        if encoded == EMPTY and not self.names:
            return ()
        try:
            values = self._decode(encoded)
        except _WRONG:
            values = self._decode_slowly(encoded)
        if self._timed:
            try:
                check_times(values)
            except errors.InvalidInput as error:
                raise self._invalid(error) from None
        return msgspec.structs.astuple(values)

    def call(self, function: Callable[..., Any], values: tuple[Any, ...], given: Any) -> Any:
        """Call the function with decoded values, and with what it takes first (a context, a call) where it wants one."""
        if self._named:
            split = len(values) - len(self._named)
            named = dict(zip(self._named, values[split:], strict=True))
            return function(given, *values[:split], **named) if self.wants_context else function(*values[:split], **named)
        return function(given, *values) if self.wants_context else function(*values)

    def _convert(self, given: Mapping[str, Any]) -> Any:
        try:
            return msgspec.convert(given, self._struct, str_keys=True)
        except _WRONG as refused:
            try:
                plain = msgspec.to_builtins(given, builtin_types=(bytes,), str_keys=True)
                return msgspec.convert(plain, self._struct, str_keys=True)
            except _WRONG:
                raise self._invalid(refused) from None

    def _decode_slowly(self, encoded: bytes) -> Any:
        """Decode what a submitter sent who did not know the kind: bytes may have been left as base64 text."""
        try:
            plain = codec.unpack(encoded)
        except _WRONG as error:
            raise self._invalid(error) from None
        return self._convert(plain)

    def _invalid(self, error: Exception) -> errors.InvalidArguments:
        takes = ", ".join(self.names) or "nothing"
        return errors.InvalidArguments(f"the arguments of {self.name} (it takes {takes}) do not fit: {_readable(error)}")


class Result:
    """What one handler or method returns. Immutable; used from any thread."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        """Read the return annotation (none: anything JSON-shaped). Raises InvalidInput for a type without a payload form."""
        self._type: Any = hints(name, function).get("return", Any)
        inner = _types([self._type], f"the result of {name}")
        self._timed = any(isinstance(kind, (*_TIMES, shapes.AnyType)) for kind in inner)
        self._atom = self._type if self._type in (str, int, bool, bytes) else None
        self._direct = all(isinstance(kind, _DIRECT) or _plain_mapping(kind) for kind in inner)
        self._decode = msgspec.msgpack.Decoder(self._type).decode
        self._optional = any(isinstance(kind, (shapes.AnyType, shapes.NoneType)) for kind in inner[:1])

    def encode(self, value: Any) -> bytes | None:
        """Return the result encoded, None for None. Raises InvalidInput when it does not fit its annotation, or no payload."""
        if value is None and self._optional:
            return None
        try:
            if type(value) is self._atom:
                return codec.pack_trusted(value)
            if self._direct and value is not None and (encoded := self._encode_directly(value)) is not None:
                return encoded
            plain = msgspec.to_builtins(value, builtin_types=(bytes,), str_keys=True)
            converted = msgspec.convert(plain, self._type, str_keys=True)
            if self._timed:
                check_times(value if self._type is Any else converted)
            return None if plain is None else codec.pack(plain, "the result")
        except _WRONG as error:
            raise errors.InvalidInput(f"the result cannot be kept: {_readable(error)}") from None

    def encode_within(self, limit: int, value: Any) -> bytes | None:
        """Return the result encoded, in `limit` bytes at the most. Raises InvalidInput, TooLarge."""
        encoded = self.encode(value)
        if encoded is not None and len(encoded) > limit:
            raise errors.TooLarge(
                f"the result takes {len(encoded)} bytes, the limit is {limit}: put big data into a file and return its name",
                limit=limit,
            )
        return encoded

    def _encode_directly(self, value: Any) -> bytes | None:
        try:
            encoded = codec.pack_trusted(value)
            self._decode(encoded)
        except _WRONG:
            return None  # What is wrong with it, the other way tells.
        return encoded

    def decode(self, encoded: bytes) -> Any:
        """Return an encoded result (empty: None) as its annotation says. Raises InvalidInput when it does not fit."""
        if not encoded:
            return self.restore(None)
        try:
            return self._decode(encoded)
        except _WRONG:
            return self.restore(codec.unpack(encoded))  # From over HTTP: bytes are base64 text.

    def restore(self, plain: Any) -> Any:
        """Return a stored result, decoded to plain values, as its annotation says. Raises InvalidInput when it does not fit."""
        try:
            return msgspec.convert(plain, self._type, str_keys=True)
        except _WRONG as error:
            raise errors.InvalidInput(f"the result does not fit its annotation: {_readable(error)}") from None


def check_times(value: Any) -> None:
    """Raise InvalidTime when a value holds a time without an offset from UTC, however deep."""
    _check_times(msgspec.to_builtins(value, builtin_types=(bytes, datetime, time), str_keys=True))


def _check_times(plain: Any) -> None:
    kind = type(plain)
    if kind is dict:
        for item in plain.values():
            _check_times(item)
    elif kind is list or kind is tuple:
        for item in plain:
            _check_times(item)
    elif isinstance(plain, (datetime, time)) and plain.tzinfo is None:
        raise errors.InvalidTime(f"the time {plain.isoformat()} has no offset from UTC: add 'Z' or '+02:00'")


def hints(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    """Return what a function's parameters and its result are annotated, by name. Raises InvalidInput when it cannot be read."""
    try:
        return typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise errors.InvalidInput(
            f"the annotations of {name} cannot be read: {error}; define the type above the handler, at the top of the module"
        ) from None


def _is_lead(parameter: inspect.Parameter, annotated: Mapping[str, Any], lead: Lead) -> bool:
    return annotated.get(parameter.name, lead.kind if parameter.name == lead.name else None) is lead.kind


def _field(name: str, parameter: inspect.Parameter, annotated: Mapping[str, Any], lead: Lead) -> Any:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise errors.InvalidInput(f"{name} takes {parameter}: arguments have names, write the parameters out")
    hint = annotated.get(parameter.name, Any)
    if hint is lead.kind:
        raise errors.InvalidInput(f"{name} takes a {lead.kind.__name__} as {parameter.name!r}: make it the first parameter")
    if parameter.default is parameter.empty:
        return parameter.name, hint
    return parameter.name, hint, _default(parameter.default)


def _default(value: Any) -> Any:
    """A field that gives the very default of the function: a mutable one is shared between calls, as in Python itself."""
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    return msgspec.field(default_factory=lambda: value)


def _types(annotated: Iterable[Any], what: str) -> list[shapes.Type]:
    """Every type inside these, them first. Raises InvalidInput for one that has no form in a payload."""
    try:
        found = list(shapes.multi_type_info(list(annotated)))
    except (TypeError, ValueError) as error:
        raise errors.InvalidInput(f"{what} has an annotation that cannot be used: {error}") from None
    seen = {id(kind) for kind in found}
    for kind in found:
        if isinstance(kind, _FORMLESS):
            raise errors.InvalidInput(
                f"{what} is annotated {getattr(kind, 'cls', kind)!r}, which has no form in a payload: "
                "use numbers, text, bytes, times, enums, lists, mappings, dataclasses or msgspec.Struct"
            )
        for part in _parts(kind):
            if id(part) not in seen:
                seen.add(id(part))
                found.append(part)
    return found


def _parts(kind: shapes.Type) -> list[shapes.Type]:
    single = (getattr(kind, name, None) for name in ("type", "item_type", "key_type", "value_type"))
    several = (part for name in ("types", "item_types") for part in getattr(kind, name, ()))
    fields = (field.type for field in getattr(kind, "fields", ()))
    return [part for part in (*single, *several, *fields) if isinstance(part, shapes.Type)]


def _plain_mapping(kind: shapes.Type) -> bool:
    return isinstance(kind, shapes.DictType) and isinstance(kind.key_type, shapes.StrType)


def _readable(error: Exception) -> str:
    said = error.message if isinstance(error, errors.CallboardError) else str(error)
    return said.replace(" - at `$.", " at `").replace("Object ", "").replace("`", "'")
