"""Where things lie in a data directory, and what a node is started from.

    callboard.db …    the default store            sessions/         who lives (`coordination.sessions`)
    hub.json          the agent's hub, mode 0600   coordination/     offices and entries, by default
    local.json        gateways and key for the     nodes/HEX.json    the record a node is started from, mode 0600
                      local commands, mode 0600    nodes/HEX.beat    its heartbeat (`kit.beat`)
                                                   nodes/HEX.door    where other nodes reach it, mode 0600
    drained           there while this server      nodes/HEX.log     what it printed
                      is to run no nodes

The agent writes records, nodes read them, whoever stops them removes them. A record outlives its process until the claims of
that process are ended: it is how a new agent knows whom it answers for.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from callboard import errors
from callboard.coordination import sessions
from callboard.names import model as names
from callboard.node import processes
from callboard.settings import (
    ControllerSettings,
    GatewaySettings,
    RegistrySettings,
    RetentionSettings,
    ServiceSettings,
    Settings,
    WorkerSettings,
)

AGENT = "agent"
"""The agent's session, and its entry."""
WORD = "word"
"""What the agent says of its own start, and of the renewal of its nodes; see `rebirth.Word`."""
NODES = "nodes/"
"""Prefix of the nodes' entries."""
_NODE_SESSION = re.compile("node-([0-9a-f]{32})")
KEPT_LOGS = 20
"""Logs of dead nodes that are kept."""


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a node is started from."""

    incarnation: str
    """UUIDv7 as 32 hexadecimal digits: the node's name in the store and everywhere."""
    role: str
    """The kind of its place: worker, gateway, service, registry, domain-controller or site-controller; see `hosting.roles`."""
    index: int = 0
    """Which of the nodes of its kind: gateway i listens on port + i."""
    directory: str
    """The working directory, from which the app is imported."""
    settings: Settings
    version: str = ""
    """Version of the program that it was started from."""

    @property
    def node(self) -> bytes:
        return bytes.fromhex(self.incarnation)

    def same_work(self, other: NodeRecord) -> bool:
        """Tell whether a node of the other record does what this one asks for: whatever concerns its role is equal."""
        return self._work() == other._work()

    def _work(self) -> NodeRecord:
        given = self.settings
        groups = given.service.groups
        leads = self.role == "site-controller" or (self.role == "gateway" and given.controller.site_count == 0)
        controls = self.role == "domain-controller" or (self.role == "gateway" and given.controller.count == 0)
        concern = Settings(
            app=given.app,
            data=given.data,
            cluster=given.cluster,
            site=given.site,
            stands=given.stands or not (controls or leads or self.role == "service"),
            store=given.store,
            coordination=given.coordination,
            wire=given.wire,
            log=given.log,
            worker=msgspec.structs.replace(given.worker, count=0) if self.role == "worker" else WorkerSettings(),
            gateway=msgspec.structs.replace(given.gateway, count=0) if self.role == "gateway" else GatewaySettings(),
            service=msgspec.structs.replace(given.service, count=0) if self.role == "service" else ServiceSettings(groups=groups),
            registry=RegistrySettings(count=int(self.role == "gateway" and given.registry.count > 0)),
            controller=msgspec.structs.replace(
                given.controller if controls else ControllerSettings(), count=int(controls), site_count=int(leads)
            ),
            retention=given.retention if controls else RetentionSettings(),
        )
        return msgspec.structs.replace(self, incarnation="", settings=concern)


class NodeEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What a node, or the agent, says of itself: in its session of the data directory, and a node in coordination, too.

    Those who look names up read it as `names.model.NodeFacts`.
    """

    pid: int
    pid_started: int
    """Field 22 of /proc/PID/stat: with the pid, the process's identity."""
    started_at: str
    incarnation: str | None = None
    roles: list[dict[str, object]] = []
    """One mapping a role: its name as `role`, and its facts."""
    host: str = ""
    port: int = 0
    """Where other nodes reach it; 0 before it listens."""
    server: str = ""
    """Name of its server, as in its certificate; empty on one machine."""
    site: str = ""
    offers: tuple[names.Offer, ...] = ()
    """What it has methods for."""
    state: Literal["serving", "draining"] = "serving"
    """Whether it takes work, or is coming to its end."""

    @property
    def process(self) -> processes.Process:
        return processes.Process(self.pid, self.pid_started)


class LocalAccess(msgspec.Struct, frozen=True):
    """What the local commands use: the gateways, and the admin key made at the first start."""

    urls: list[str]
    key: str | None = None


class Layout:
    """The paths of one data directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.nodes = directory / "nodes"
        self.hub = directory / "hub.json"
        self.local = directory / "local.json"
        self.drained = directory / "drained"

    def prepare(self) -> None:
        """Make the directories, or raise DataUnusable."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # Jobs are nobody else's business.
            self.nodes.mkdir(mode=0o700, exist_ok=True)
            probe = self.directory / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise unusable(self.directory, error) from None

    def sessions(self) -> sessions.ProcessSessions:
        """Return the sessions of this directory's processes. Raises DataUnusable."""
        return sessions.ProcessSessions(self.directory / "sessions")

    def record(self, incarnation: str) -> Path:
        return self.nodes / f"{incarnation}.json"

    def beat(self, incarnation: str) -> Path:
        return self.nodes / f"{incarnation}.beat"

    def door(self, incarnation: str) -> Path:
        return self.nodes / f"{incarnation}.door"

    def log(self, incarnation: str) -> Path:
        return self.nodes / f"{incarnation}.log"

    def records(self) -> Iterator[NodeRecord]:
        """Yield the records that lie here; what cannot be read is passed over."""
        for path in sorted(self.nodes.glob("*.json")):
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                yield read_record(path)

    def forget(self, incarnation: str) -> None:
        """Remove what a dead node leaves, its log excepted: the latest logs are kept."""
        for path in (self.record(incarnation), self.beat(incarnation), self.door(incarnation)):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        for path in sorted(self.nodes.glob("*.log"))[:-KEPT_LOGS]:
            if not self.record(path.stem).exists():
                with contextlib.suppress(OSError):
                    path.unlink()


def session_name(incarnation: str) -> str:
    """Return the name of the session that a node holds, in its data directory and in coordination."""
    return f"node-{incarnation}"


def incarnation_of(session: str) -> str | None:
    """Return which node a session belongs to; None when it is no node's."""
    found = _NODE_SESSION.fullmatch(session)
    return found[1] if found else None


def entry(found: sessions.Entry) -> NodeEntry | None:
    """Read an entry; None when it makes no sense."""
    with contextlib.suppress(msgspec.MsgspecError):
        return msgspec.json.decode(found.body, type=NodeEntry)
    return None


def read_record(path: Path) -> NodeRecord:
    """Read a record. Raises OSError, msgspec.MsgspecError."""
    return msgspec.json.decode(path.read_bytes(), type=NodeRecord)


def read_local(path: Path) -> LocalAccess | None:
    """Read what the local commands use; None when it is not there or makes no sense."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=LocalAccess)
    return None


def unusable(directory: Path, error: OSError) -> errors.DataUnusable:
    """Return the error for a data directory that the system refuses."""
    return errors.DataUnusable(
        f"the data directory {directory} cannot be used: {error.strerror}: make it writable, or name another one with --data"
    )
