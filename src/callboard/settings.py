"""What can be set, by concern. One name a setting: `worker.slots` in callboard.toml ([worker] slots = 16),
CALLBOARD_WORKER_SLOTS in the environment, and the same dotted name for a command's flag. File < environment < flags.

`load` is called by commands; nodes are given the frozen result. A key that nobody knows is an error that names the nearest
known one; a value out of range is one that names where it stands.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from callboard import errors

FILE = "callboard.toml"
"""Looked for in the working directory."""
PREFIX = "CALLBOARD_"
RESERVED = frozenset({"CALLBOARD_CONFIG", "CALLBOARD_URL", "CALLBOARD_URLS", "CALLBOARD_KEY", "CALLBOARD_VIA"})
"""Names in the environment that belong to the commands and clients, not to the settings of a node."""
RESERVED_PREFIX = "CALLBOARD_TEST_"

Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]
Name = Annotated[str, Meta(min_length=1, max_length=253)]


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the groups."""


class StoreSettings(Group, frozen=True, kw_only=True):
    """Where jobs are kept."""

    url: str | None = None
    """URL of the store: `mysql://USER:PASSWORD@HOST:PORT/DATABASE` or `postgresql://…`, several hosts with commas between. None:
    `sqlite:///` + the data directory + `/callboard.db`, which needs nothing else to run."""


class WorkerSettings(Group, frozen=True, kw_only=True):
    """The processes that run handlers."""

    count: Annotated[int, Meta(ge=0, le=256)] = 2
    """Worker nodes (processes). Two: while one is restarted, the other one works."""
    slots: Annotated[int, Meta(ge=1, le=10_000)] = 16
    """Handlers that one worker runs at a time. Sixteen suits handlers that mostly wait; use about one a core for busy ones."""
    short_floor: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    """Slots of each worker kept for short jobs. None: a quarter of the slots, at least one when there are two or more; but
    none where the app declares no kind short, as they would lie idle."""
    domains: tuple[Name, ...] = ("main",)
    """Domains whose jobs the workers take. `main` is the one that exists from the start."""
    queues: tuple[Name, ...] | None = None
    """Queues that the workers take jobs from. None: those of the kinds that the app declares."""
    grace_seconds: Seconds = 10.0
    """Seconds that running handlers get when a node stops. Ten: what most supervisors allow before they kill."""


class BridgeSettings(Group, frozen=True, kw_only=True):
    """The message brokers from which worker nodes take jobs."""

    urls: tuple[str, ...] = ()
    """URLs of message brokers: `activemq://USER:PASSWORD@HOST:PORT`, the hosts of one broker and its stand-ins with commas
    between them. Several URLs: all of them are consumed at once. None: there is no bridge."""
    destinations: tuple[Name, ...] = ()
    """What is consumed, as DESTINATION, DESTINATION=DOMAIN/QUEUE or DESTINATION=DOMAIN/QUEUE:KIND. None: `callboard.DOMAIN.QUEUE`
    for each domain and queue that the workers take jobs from."""


class GatewaySettings(Group, frozen=True, kw_only=True):
    """The processes that answer HTTP."""

    count: Annotated[int, Meta(ge=0, le=64)] = 1
    """Gateway nodes (processes). One saves memory; a second one keeps answering while the first is restarted."""
    host: Name = "127.0.0.1"
    """Address to listen on. Loopback: nothing is open to the network unless somebody says so."""
    port: Annotated[int, Meta(ge=1, le=65_535)] = 8321
    """TCP port of the first gateway; the next ones take the next ports."""
    max_body_bytes: Annotated[int, Meta(ge=1024, le=1 << 30)] = 16 << 20
    """Bytes of a batch's body. 16 MiB: 10,000 jobs with arguments of 1.6 KB each."""

    @property
    def urls(self) -> list[str]:
        """Where this machine reaches its gateways."""
        return [f"http://{_reached(self.host)}:{self.port + index}" for index in range(self.count)]


def _reached(host: str) -> str:
    """Return what to write into a URL for an address that is listened on."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6:
        return "[::1]" if address.is_unspecified else f"[{address}]"
    return "127.0.0.1" if address.is_unspecified else host


class ServiceSettings(Group, frozen=True, kw_only=True):
    """The processes that run named services."""

    count: Annotated[int, Meta(ge=0, le=256)] = 2
    """Service nodes (processes). Two: one serves, the other one stands by. There are none without an app, or with one that has
    no services."""
    groups: tuple[Name, ...] = ("main=.",)
    """Which group serves which domains, as GROUP=DOMAIN; a domain means its subtree, less what other groups name, and `.` all
    domains. The same at every node of a site. One group: a small site needs no more."""
    group: Name | None = None
    """The group that the service nodes here stand for. None: every group; each has its own active instance all the same."""
    order: Annotated[int, Meta(ge=0, le=999_999)] | None = None
    """Place of the service nodes here among those who stand for an office: the lowest that lives is preferred. None: the number
    of the node, counted from 0."""
    preempt: bool = False
    """Whether a preferred instance that comes back takes over from one that serves. False: who serves well is not disturbed, and
    a death changes hands once. Set it where the order says which server is the better one."""


class RegistrySettings(Group, frozen=True, kw_only=True):
    """The processes that know who answers for a name."""

    count: Annotated[int, Meta(ge=0, le=64)] = 0
    """Registry nodes (processes). None: every gateway node is a registry, too, which saves memory; with nodes of their own,
    lookups do not wait behind HTTP."""


class ControllerSettings(Group, frozen=True, kw_only=True):
    """The processes that keep the store in order, one of them active for each group of domains, and those that tell every node
    of a site what there is, one of them active."""

    count: Annotated[int, Meta(ge=0, le=64)] = 0
    """Domain controller nodes (processes). None: every gateway node stands for the office, too, which saves memory."""
    site_count: Annotated[int, Meta(ge=0, le=64)] = 0
    """Site controller nodes (processes). None: every gateway node stands for the office, too, which saves memory; with nodes of
    their own, what changes is told without waiting behind HTTP."""
    lease_seconds: Annotated[float, Meta(ge=3, le=3600)] = 3.0
    """Seconds for which the nodes of a server must not have renewed their claims before these are ended, when coordination has
    given up the server and them as well: the lease and `coordination.session_seconds` pass at the same time. Three or more: a
    node renews every second, and one that was held up has half of it to come back; so has everybody after the store or
    coordination was out of reach, or the store took no writes."""


class CoordinationSettings(Group, frozen=True, kw_only=True):
    """What tells the nodes of a site who lives and who holds which office."""

    url: str | None = None
    """URL of the coordination: `zookeeper://HOST:PORT,HOST:PORT/PATH`, a database (`mysql://…`, `postgresql://…`; it may be the
    store's), or `local:///DIRECTORY` for one machine. None: `local` in the data directory, which needs nothing else to run."""
    session_seconds: Annotated[float, Meta(ge=1, le=60)] = 3.0
    """Seconds after which a silent node is taken for dead where no agent can tell (its whole server died), as asked for. An
    active service whose coordination is out of reach goes on for two thirds of it."""


class WireSettings(Group, frozen=True, kw_only=True):
    """Connections between nodes."""

    host: Name = "127.0.0.1"
    """Address on which nodes and agents listen for their like; the port is chosen at each start. Loopback: one machine."""
    server: Name | None = None
    """Name of this server, as in its certificate (`callboard certs issue NAME`): nodes then talk over mutual TLS alone. None: one
    machine, where a secret made at each start tells who may talk."""
    certificates: str = "certs"
    """Directory of `cluster-ca.pem` and this server's certificate and key. Relative to the working directory."""
    in_flight: Annotated[int, Meta(ge=1, le=100_000)] = 4096
    """Requests that may be under way on one connection in each direction; more are refused as `overloaded` at once, which is
    better than to wait behind them."""


class AgentSettings(Group, frozen=True, kw_only=True):
    """How the agent judges its nodes from outside."""

    stall_seconds: Seconds = 120.0
    """Seconds that a handler without a deadline may keep its node's loop from moving. Long: C code that holds the interpreter
    for a minute is work, not a stall."""
    silent_seconds: Seconds = 10.0
    """Seconds that a loop with no running handler may be silent. Far above any pause of a healthy loop on a loaded machine."""
    stopped_seconds: Seconds = 3.0
    """Seconds that a node may be stopped (SIGSTOP) before it is killed, so that its jobs can run elsewhere."""
    start_seconds: Seconds = 60.0
    """Seconds that a node may take until it is ready: importing a big app takes its time."""
    lock_seconds: Seconds = 120.0
    """Seconds that a process may hold the store's write lock without progress. Everyone waits for it; but one that moves again
    was kept by a handler in C code, and no job starts a second time because it is long. As `stall_seconds`, for that reason."""
    lock_stopped_seconds: Seconds = 2.0
    """The same for a stopped process, which will not move by itself."""


class RetentionSettings(Group, frozen=True, kw_only=True):
    """How long finished jobs are kept. Whatever is set, each is kept 20 minutes, so that repeated submissions are recognized."""

    age_seconds: Annotated[float, Meta(ge=1200, le=3_153_600_000)] = 604_800.0
    """Seconds that a finished job is kept. A week: over a weekend and some, for those who ask what happened."""
    keep: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 1_000_000
    """Finished jobs kept in one domain; the longest finished go first. A million of small ones are about half a gigabyte."""


class LogSettings(Group, frozen=True, kw_only=True):
    """What processes say."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important events that are logged. Info: starts, stops, deaths; nothing for each job."""
    form: Literal["text", "json"] = "text"
    """key=value lines for people, or one JSON object a line for collectors."""


class Settings(Group, frozen=True, kw_only=True):
    """Everything that can be set. Frozen: a change needs a restart."""

    app: Name | None = None
    """`MODULE:APP` whose handlers and named services run, looked for in the working directory first. None: the built-in kinds."""
    data: str = ".callboard"
    """The data directory: database, hub address, records and logs of nodes. Relative to the working directory."""
    cluster: Name = "callboard"
    """Name of the group of servers. Nodes of different clusters do not talk to each other."""
    site: Name = "main"
    """Where this machine stands: servers with fast links among them are one site."""
    stands: bool = True
    """Whether nodes here stand for the offices of active-passive roles. False: what a server gives its nodes whose file of the
    cluster is older than the one that was published; work and what needs no office go on."""
    store: StoreSettings = StoreSettings()
    worker: WorkerSettings = WorkerSettings()
    bridge: BridgeSettings = BridgeSettings()
    gateway: GatewaySettings = GatewaySettings()
    service: ServiceSettings = ServiceSettings()
    registry: RegistrySettings = RegistrySettings()
    controller: ControllerSettings = ControllerSettings()
    coordination: CoordinationSettings = CoordinationSettings()
    wire: WireSettings = WireSettings()
    agent: AgentSettings = AgentSettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()

    @property
    def directory(self) -> Path:
        """The data directory as an absolute path."""
        return Path(self.data).expanduser().absolute()

    @property
    def store_url(self) -> str:
        """The store's URL, the default one spelled out."""
        return self.store.url or f"sqlite:///{str(self.directory / 'callboard.db').lstrip('/')}"

    @property
    def coordination_url(self) -> str:
        """The coordination's URL, the default one spelled out."""
        return self.coordination.url or f"local:///{str(self.directory / 'coordination').lstrip('/')}"


def fields() -> Mapping[str, tuple[Any, Any]]:
    """Return every setting by its dotted name, with its type and its default: what flags and the reference are made from."""
    return dict(_walk(Settings, ""))


def load(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    *,
    under: Mapping[str, Any] | None = None,
) -> Settings:
    """Return the settings of a configuration file (if given), under an environment, under flags by dotted name (None: not given).

    `under` is what all of these go over, by dotted name, each value as `checked` returned it. Raises InvalidSetting, one line
    naming the place, the key and the mend.
    """
    found: dict[str, Any] = dict(under or {})
    if file is not None:
        found |= _from_file(file)
    found |= _from_environment(environment or {})
    for name, value in (flags or {}).items():
        if value is not None:
            found[name] = checked(name, value, "the command line", shown=name)
    return _built(found)


def checked(name: str, value: Any, place: str, *, shown: str) -> Any:
    """Return the value of a setting as its type wants it. Raises InvalidSetting, with its place and the name as shown there."""
    if name not in _FIELDS:
        raise _unknown(name, _FIELDS, place)
    try:
        return msgspec.convert(value, _FIELDS[name][0], strict=False)
    except msgspec.ValidationError as error:
        said = "" if name.endswith(("url", "urls")) else f" = {value!r:.80}"  # A URL may hold a password.
        raise errors.InvalidSetting(f"{place}: {shown}{said}: {error}", setting=name) from None


def nearest(key: str, known: Iterable[str]) -> str | None:
    """Return the known key that somebody may have meant, None when none is near: by the whole of it, else by its last part."""
    names = list(known)
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.5) or _of_last_part(key, names)
    return near[0] if near else None


def _walk(group: Any, prefix: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    types = typing.get_type_hints(group, include_extras=True)
    for field in msgspec.structs.fields(group):
        if isinstance(field.default, Group):
            yield from _walk(type(field.default), f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, (types[field.name], field.default)


_FIELDS = fields()
_BY_VARIABLE = {PREFIX + name.replace(".", "_").upper(): name for name in _FIELDS}


def _from_file(file: Path) -> dict[str, Any]:
    try:
        given = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise errors.InvalidSetting(f"{file} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise errors.InvalidSetting(f"{file} is not TOML: {error}") from None
    flat: dict[str, Any] = {}
    for key, value in given.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            flat[key] = value
    return {name: checked(name, value, str(file), shown=name) for name, value in flat.items()}


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or variable in RESERVED or variable.startswith(RESERVED_PREFIX):
            continue
        if variable not in _BY_VARIABLE:
            raise _unknown(variable, _BY_VARIABLE, "the environment")
        name = _BY_VARIABLE[variable]
        found[name] = checked(name, _split(name, value), "the environment", shown=variable)
    return found


def _split(name: str, value: str) -> Any:
    if "tuple" not in str(_FIELDS[name][0]):
        return value
    between = r",(?=\s*[a-z]+://)" if name.endswith("urls") else ","  # The hosts of a URL have commas of their own.
    return [part.strip() for part in re.split(between, value) if part.strip()]


def _unknown(key: str, known: Mapping[str, Any], place: str) -> errors.InvalidSetting:
    near = nearest(key, known)
    mend = f"did you mean {near}?" if near else "see the reference of settings"
    return errors.InvalidSetting(f"{place}: {key} is not a setting: {mend}", setting=key)


def _of_last_part(key: str, known: Iterable[str]) -> list[str]:
    lasts = {name.rpartition(".")[2]: name for name in known}
    return [lasts[match] for match in difflib.get_close_matches(key.rpartition(".")[2], lasts, n=1)]


def _built(found: Mapping[str, Any]) -> Settings:
    nested: dict[str, Any] = {}
    for name, value in found.items():
        group, _, field = name.rpartition(".")
        if group:
            nested.setdefault(group, {})[field] = value
        else:
            nested[field] = value
    types = typing.get_type_hints(Settings)
    return Settings(**{name: types[name](**value) if isinstance(value, dict) else value for name, value in nested.items()})
