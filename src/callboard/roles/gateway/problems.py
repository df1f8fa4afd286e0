"""Errors as HTTP says them: a status, and a one-line problem document (RFC 9457) with the stable code.

Nobody else knows statuses.
Members: type, title, status, detail, code, retryable, and the facts of the occurrence (limit, index, state ...). What was not
foreseen is logged with its traceback and answered without.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import structlog

from callboard import errors

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 1


class Malformed(errors.InvalidInput):
    """Raised for a body that is not JSON at all: a 400, where everything else invalid is a 422."""


_STATUSES: Final[dict[type[errors.CallboardError], int]] = {
    errors.InvalidInput: 422,
    Malformed: 400,
    errors.TooLarge: 413,
    errors.UnknownKind: 422,
    errors.IdConflict: 409,
    errors.IdExpired: 409,
    errors.JobNotFound: 404,
    errors.NotFound: 404,
    errors.StateRefused: 409,
    errors.ClaimLost: 409,
    errors.DocumentConflict: 409,
    errors.Unsupported: 501,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.StoreUnavailable: 503,
    errors.StoreFull: 503,
    errors.StoreRefused: 503,
    errors.StoreUnfit: 503,
    errors.BrokerUnavailable: 503,
    errors.BrokerRefused: 503,
    errors.WaitTimeout: 504,
    errors.Unreachable: 503,
    errors.UnknownName: 404,
    errors.UnknownMethod: 404,
    errors.DomainNotServed: 404,
    errors.InterfaceConflict: 409,
    errors.NotActive: 503,
    errors.WrongEpoch: 503,
    errors.LeaseUnconfirmed: 503,
    errors.DeadlineExceeded: 504,
    errors.ConnectionLost: 503,
    errors.Overloaded: 503,
    errors.InvalidResult: 502,
    errors.AnsweredTwice: 502,
    errors.WireRefused: 503,
    errors.CoordinationUnavailable: 503,
    errors.CoordinationConflict: 409,
    errors.CallError: 502,
}
_STANDARD: Final = ("type", "title", "status", "detail", "code", "retryable")
_log = structlog.get_logger("callboard.gateway")


class Answer(msgspec.Struct, frozen=True):
    """A whole response: status, headers as ASGI wants them, body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def answer(error: BaseException, status: int | None = None) -> Answer:
    """Return the response that tells of an error; `status` overrides the one of its class."""
    if not isinstance(error, errors.CallboardError):
        _log.error("a request failed", exc_info=error)
        return say(500, "internal_error", "the gateway failed on this request: its log says why", retryable=False)
    return say(status or status_of(error), error.code, error.message, retryable=error.retryable, **error.data)


def status_of(error: errors.CallboardError) -> int:
    """Return the HTTP status of an error: that of its nearest class which has one, else 500.

    Whatever is wrong with one job of a batch (`index` says which) makes the batch unprocessable, not too large or malformed.
    What a service raised for reasons of its own is a 422, or a 503 when trying again may help.
    """
    if isinstance(error, errors.InvalidInput) and "index" in error.data:
        return 422
    if isinstance(error, errors.ServiceError):
        return 503 if error.retryable else 422
    return next((_STATUSES[cls] for cls in type(error).__mro__ if cls in _STATUSES), 500)


def too_large(limit: int) -> errors.TooLarge:
    """Return the error for a body over `limit` bytes."""
    return errors.TooLarge(f"the body is over {limit} bytes: send less at once, big data by reference", limit=limit)


def say(status: int, code: str, detail: str, *, retryable: bool = False, **data: Any) -> Answer:
    """Return a problem document of these members."""
    members = {
        "type": f"urn:callboard:error:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": " ".join(detail.split()),
        "code": code,
        "retryable": retryable,
    }
    members |= {name: value for name, value in data.items() if name not in _STANDARD}
    body = msgspec.json.encode(members, enc_hook=str)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="callboard"'))
    elif status == 503:
        headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
    return Answer(status, headers, body)
