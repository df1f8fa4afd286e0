"""Every error that Callboard raises on purpose, one tree.

    CallboardError
    ├── InvalidInput            invalid_input        what was given breaks a rule; nothing was changed
    │   ├── InvalidName         invalid_name         a domain, queue, kind or tag outside the grammar
    │   ├── InvalidId           invalid_id           not a UUIDv7, or one of the future
    │   ├── InvalidTime         invalid_time         a time without an offset, or out of range
    │   ├── InvalidArguments    invalid_arguments    arguments do not fit the kind's annotations
    │   ├── InvalidSetting      invalid_setting      an unknown setting or a value out of range
    │   └── TooLarge            too_large            a body, an argument or a result over its limit
    ├── UnknownKind             unknown_kind         this process does not know the kind
    ├── IdConflict              id_conflict          the id belongs to a job with another content
    ├── IdExpired               id_expired           the id is older than finished jobs are kept
    ├── JobNotFound             job_not_found        no such job, or it was purged
    ├── NotFound                not_found            no such queue, node, key or address
    ├── StateRefused            state_refused        the job's state does not allow this
    ├── ClaimLost               claim_lost           the claim is no longer held: somebody else owns the job
    ├── DocumentConflict        document_conflict    a document changed since it was read
    ├── JobFailed               job_failed           the awaited job ended discarded or cancelled
    ├── WaitTimeout             wait_timeout         the job is not finished yet
    ├── Unsupported             unsupported          the engine lacks an ability
    ├── Unauthorized            unauthorized         no key, or one that is unknown or revoked
    ├── Forbidden               forbidden            the key's scopes or domain do not reach this
    ├── StoreError
    │   ├── StoreUnavailable    store_unavailable    out of reach for now; a retry may help
    │   ├── StoreFull           store_full           no room in the store: of its disk, or of the jobs that it takes
    │   ├── StoreCorrupt        store_corrupt        the database file is damaged
    │   ├── StoreForeign        store_foreign        the database belongs to another program
    │   ├── StoreRefused        store_refused        the server does not let this user in, or do this
    │   ├── StoreUnfit          store_unfit          the server is too old, read-only, or set so that promises break
    │   └── StoreTooNew         store_too_new        written by a newer Callboard
    ├── BrokerError
    │   ├── BrokerUnavailable   broker_unavailable   the message broker is out of reach for now; a retry may help
    │   └── BrokerRefused       broker_refused       the message broker does not let this user in, or do this
    ├── Unreachable             unreachable          no gateway, or no node, answered at its address; a retry may help
    ├── CallError               call_error           a call to a name went wrong; `data["ran"]` says whether it was begun
    │   ├── UnknownName         unknown_name         nobody alive has a service or role of this name
    │   ├── UnknownMethod       unknown_method       the name has no such method, or does not expose it
    │   ├── DomainNotServed     domain_not_served    no group serves the domain, or another group does
    │   ├── InterfaceConflict   interface_conflict   instances of one name say different things of its methods
    │   ├── NotActive           not_active           the name has no active instance just now; a retry may help
    │   ├── WrongEpoch          wrong_epoch          meant for another epoch than the instance's own; a retry may help
    │   ├── LeaseUnconfirmed    lease_unconfirmed    active by its last knowledge, which is too old; a retry may help
    │   ├── DeadlineExceeded    deadline_exceeded    no answer within the time that the caller gave
    │   ├── ConnectionLost      connection_lost      the connection broke before the answer; a retry may help
    │   ├── Overloaded          overloaded           too many requests wait there already; a retry may help
    │   ├── InvalidResult       invalid_result       what the method returned does not fit its annotation, or no payload
    │   ├── AnsweredTwice       answered_twice       a recipient answered one request twice: none of it can be trusted
    │   └── ServiceError        service_failed       the method raised; services make subclasses with codes of their own
    ├── WireRefused             wire_refused         two nodes do not talk to each other
    │   ├── WrongCluster        wrong_cluster        the other node belongs to another cluster
    │   ├── WrongSecret         wrong_secret         the other node does not know the secret
    │   ├── WrongCertificate    wrong_certificate    the other server's certificate is none of this cluster's
    │   ├── WrongVersion        wrong_version        no version of the protocol that both speak
    │   ├── WrongNode           wrong_node           another node than the expected one answers at the address
    │   └── MalformedFrame      malformed_frame      what came over the wire makes no sense
    ├── CoordinationError
    │   ├── CoordinationUnavailable  coordination_unavailable  out of reach for now; a retry may help
    │   └── CoordinationConflict     coordination_conflict     a guard did not hold: somebody else was first
    └── StartupError
        ├── PortInUse           port_in_use          another process listens there
        ├── DataUnusable        data_unusable        the data directory cannot be used
        ├── NetworkFileSystem   network_file_system  SQLite must not live on a network file system
        ├── AlreadyRunning      already_running      another agent serves this data directory
        ├── NotRunning          not_running          no agent serves this data directory, or none with a gateway
        └── AppNotFound         app_not_found        MODULE:APP cannot be imported

`code` is stable and part of the API (HTTP problem documents, exit messages); the message is one line that names the
cause and the mend. `retryable` says whether the same request may succeed later without being changed.
"""

from __future__ import annotations

from typing import Any, ClassVar


class CallboardError(Exception):
    """Base of all. `data` holds JSON-shaped facts about this occurrence, for programs."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.data)


def _rebuild(cls: type[CallboardError], message: str, data: dict[str, Any]) -> CallboardError:
    return cls(message, **data)


class InvalidInput(CallboardError):
    """Raised when what was given breaks a rule. Nothing was changed."""

    code = "invalid_input"


class InvalidName(InvalidInput):
    """Raised when a domain, queue, kind or tag is outside the grammar."""

    code = "invalid_name"


class InvalidId(InvalidInput):
    """Raised when a job id is not a UUIDv7 or lies more than five minutes in the future."""

    code = "invalid_id"


class InvalidTime(InvalidInput):
    """Raised when a time has no offset from UTC or lies out of range."""

    code = "invalid_time"


class InvalidArguments(InvalidInput):
    """Raised when arguments do not fit the annotations of the kind's handler."""

    code = "invalid_arguments"


class InvalidSetting(InvalidInput):
    """Raised when a setting is unknown or its value out of range."""

    code = "invalid_setting"


class TooLarge(InvalidInput):
    """Raised when a body, arguments or a result exceed their limit; `data["limit"]` is in bytes."""

    code = "too_large"


class UnknownKind(CallboardError):
    """Raised when a kind must be known here (to validate or to run) and is not."""

    code = "unknown_kind"


class IdConflict(CallboardError):
    """Raised when a job of this id exists with another kind, other arguments or other options."""

    code = "id_conflict"


class IdExpired(CallboardError):
    """Raised when an id is so old that a finished job of it may have been purged: nobody can tell a retry from new work."""

    code = "id_expired"


class JobNotFound(CallboardError):
    """Raised when no job has this id, or it was purged."""

    code = "job_not_found"


class NotFound(CallboardError):
    """Raised when a queue, node, key or address does not exist."""

    code = "not_found"


class StateRefused(CallboardError):
    """Raised when the job's state does not allow what was asked; `data["state"]` names the state."""

    code = "state_refused"


class ClaimLost(CallboardError):
    """Raised when a claim is no longer held by the node that made it."""

    code = "claim_lost"


class DocumentConflict(CallboardError):
    """Raised when a document's version is not the expected one."""

    code = "document_conflict"
    retryable = True


class JobFailed(CallboardError):
    """Raised to one who awaits a result when the job ended discarded or cancelled."""

    code = "job_failed"

    @classmethod
    def of(cls, id: str, state: str, reason: str | None, type: str = "", message: str = "") -> JobFailed:
        """Return it for a job in `state`; `type` and `message` say what went wrong in its last attempt, if anything did."""
        said: tuple[str | None, ...] = (f"job {id} is {state}", reason, type, message)
        if reason == state == "cancelled":
            said = said[:1]  # Somebody wished it; what went wrong before is not why.
        elif reason == state:
            said = (said[0], "" if type == "Discard" else type, message)  # The handler gave it up in words of its own.
        return cls(": ".join(each for each in said if each), state=state, reason=reason, id=id)


class WaitTimeout(CallboardError):
    """Raised when a job is not finished within the time somebody was ready to wait."""

    code = "wait_timeout"
    retryable = True


class Unsupported(CallboardError):
    """Raised when an engine is asked for an ability that it does not declare."""

    code = "unsupported"


class Unauthorized(CallboardError):
    """Raised when a request carries no key, or one that is unknown or revoked."""

    code = "unauthorized"


class Forbidden(CallboardError):
    """Raised when a key's scopes or domain do not reach what was asked."""

    code = "forbidden"


class StoreError(CallboardError):
    """Base of what an engine raises. Nothing of the units in hand was applied, unless `data["unknown"]` is true."""

    code = "store_error"


class StoreUnavailable(StoreError):
    """Raised when the store is out of reach or busy for now."""

    code = "store_unavailable"
    retryable = True


class StoreFull(StoreError):
    """Raised when the store has no space left, or holds as many jobs as it takes (`data["limit"]`)."""

    code = "store_full"
    retryable = True


class StoreCorrupt(StoreError):
    """Raised when the database file is damaged."""

    code = "store_corrupt"


class StoreForeign(StoreError):
    """Raised when the database belongs to another program."""

    code = "store_foreign"


class StoreRefused(StoreError):
    """Raised when the server does not let this user in or do this: a password, a database, a privilege."""

    code = "store_refused"


class StoreUnfit(StoreError):
    """Raised when the server is too old, read-only, or set so that promises cannot be kept."""

    code = "store_unfit"


class StoreTooNew(StoreError):
    """Raised when the database needs a newer Callboard to read it."""

    code = "store_too_new"


class BrokerError(CallboardError):
    """Base of what connections to message brokers raise. `data["unknown"]`: whether a message was sent may not be known."""

    code = "broker_error"


class BrokerUnavailable(BrokerError):
    """Raised when a message broker is out of reach, silent or takes no messages for now."""

    code = "broker_unavailable"
    retryable = True


class BrokerRefused(BrokerError):
    """Raised when a message broker does not let this user in or do this; `data["destination"]` names a queue, if it is one."""

    code = "broker_refused"


class Unreachable(CallboardError):
    """Raised by a client when no gateway answered within the retry budget, and when no node answers at an address."""

    code = "unreachable"
    retryable = True


class CallError(CallboardError):
    """Base of what goes wrong with a call. `data["ran"]`: `no` (surely not begun), `yes`, or `unknown`."""

    code = "call_error"


class UnknownName(CallError):
    """Raised when nobody alive has a service or role of this name, or the exact instance is gone."""

    code = "unknown_name"


class UnknownMethod(CallError):
    """Raised when a name has no such method, or does not expose it."""

    code = "unknown_method"


class DomainNotServed(CallError):
    """Raised when no group serves a domain (`data["groups"]` lists them), or another group than the one that was asked."""

    code = "domain_not_served"


class InterfaceConflict(CallError):
    """Raised when instances of one service declare different interfaces: two programs took the same name."""

    code = "interface_conflict"


class NotActive(CallError):
    """Raised when a name has no active instance just now, or a standby was asked."""

    code = "not_active"
    retryable = True


class WrongEpoch(CallError):
    """Raised by an instance that is asked under another epoch than its own; `data["epoch"]` is its own."""

    code = "wrong_epoch"
    retryable = True


class LeaseUnconfirmed(CallError):
    """Raised by an active instance whose office was not confirmed for so long that another one may have taken it."""

    code = "lease_unconfirmed"
    retryable = True


class DeadlineExceeded(CallError):
    """Raised when there was no answer within the time that the caller gave."""

    code = "deadline_exceeded"


class ConnectionLost(CallError):
    """Raised when the connection broke before the answer; `data["ran"]` is `unknown` once the request was sent."""

    code = "connection_lost"
    retryable = True


class Overloaded(CallError):
    """Raised when too many requests wait for a node, here or there."""

    code = "overloaded"
    retryable = True


class InvalidResult(CallError):
    """Raised when what a method returned does not fit its annotation, cannot be encoded, or is too large."""

    code = "invalid_result"


class AnsweredTwice(CallError):
    """Raised when a recipient answered one request twice."""

    code = "answered_twice"


class ServiceError(CallError):
    """Raised when a method raised. Services raise subclasses that have a `code` of their own: code, message and data reach the
    caller, as a ServiceError with that code where the class is unknown. Other exceptions arrive as `service_failed`."""

    code = "service_failed"


class WireRefused(CallboardError):
    """Base of why two nodes do not talk to each other."""

    code = "wire_refused"


class WrongCluster(WireRefused):
    """Raised when the other node belongs to another cluster."""

    code = "wrong_cluster"


class WrongSecret(WireRefused):
    """Raised when the other node cannot prove that it knows the secret of the node it talks to."""

    code = "wrong_secret"


class WrongCertificate(WireRefused):
    """Raised when the other server's certificate is missing, expired, or none of this cluster's."""

    code = "wrong_certificate"


class WrongVersion(WireRefused):
    """Raised when two nodes have no version of the protocol in common."""

    code = "wrong_version"


class WrongNode(WireRefused):
    """Raised when another node than the expected one answers at an address: the expected one is dead."""

    code = "wrong_node"


class MalformedFrame(WireRefused):
    """Raised when what came over the wire makes no sense, or is over the limit."""

    code = "malformed_frame"


class CoordinationError(CallboardError):
    """Base of what an engine of coordination raises."""

    code = "coordination_error"


class CoordinationUnavailable(CoordinationError):
    """Raised when coordination is out of reach for now. What was asked may have happened: read before repeating it."""

    code = "coordination_unavailable"
    retryable = True


class CoordinationConflict(CoordinationError):
    """Raised when a guard did not hold; nothing was applied. `data["path"]` names the entry."""

    code = "coordination_conflict"


class StartupError(CallboardError):
    """Base of what keeps a command or a node from starting."""

    code = "startup_error"


class PortInUse(StartupError):
    """Raised when another process listens on the port."""

    code = "port_in_use"


class DataUnusable(StartupError):
    """Raised when the data directory cannot be created, read or written."""

    code = "data_unusable"


class NetworkFileSystem(StartupError):
    """Raised when the database would lie on a network file system, where SQLite's locks cannot be trusted."""

    code = "network_file_system"


class AlreadyRunning(StartupError):
    """Raised when another agent serves this data directory."""

    code = "already_running"


class NotRunning(StartupError):
    """Raised when no agent serves this data directory, or none with a gateway."""

    code = "not_running"


class AppNotFound(StartupError):
    """Raised when MODULE:APP cannot be imported or is not a Callboard."""

    code = "app_not_found"


def by_code() -> dict[str, type[CallboardError]]:
    """Return the classes of this tree by their code: what turns an error that travelled back into an exception."""
    found: dict[str, type[CallboardError]] = {}
    waiting: list[type[CallboardError]] = [CallboardError]
    while waiting:
        cls = waiting.pop()
        if cls.__module__ == __name__:
            found.setdefault(cls.code, cls)
            waiting += cls.__subclasses__()
    return found


def restored(code: str, message: str, retryable: bool, data: dict[str, Any]) -> CallboardError:
    """Return the exception for an error that travelled: of its class, or a ServiceError that carries a code nobody here knows."""
    cls = _BY_CODE.get(code)
    if cls is not None:
        return cls(message, **data)
    made = ServiceError(message, **data)
    made.code, made.retryable = code, retryable  # type: ignore[misc]  # Of this occurrence: the class is the service's own.
    return made


_BY_CODE = by_code()
