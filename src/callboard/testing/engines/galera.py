"""Private Galera clusters of MariaDB servers: three are ready in about a second, with no state transfer.

    with galera.Cluster() as cluster:
        engine = engines.open(cluster.database())
        cluster.members[0].kill()

Every member's data is a copy of one that was a cluster of its own, and is told by a `gvwstate.dat` that it was last seen together
with the others: so they restore a cluster that never was. By default failures are noticed in one second or so (the product's
own default: about six). `settings` are flags for every member that come after ours.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path

from callboard.kit import ports
from callboard.testing.engines import ground, mariadb, places, servers, trees

PACKAGES = ("galera-4", "rsync")
_PROVIDERS = (
    Path("/usr/lib/galera/libgalera_smm.so"),
    Path("/usr/lib/libgalera_smm.so"),
    Path("/usr/lib64/galera-4/libgalera_smm.so"),
)
_QUICK = (
    *("evs.suspect_timeout=PT1S", "evs.inactive_timeout=PT3S", "evs.inactive_check_period=PT0.2S", "evs.keepalive_period=PT0.3S"),
    *("evs.join_retrans_period=PT0.3S", "evs.install_timeout=PT2S", "gmcast.peer_timeout=PT1S", "pc.announce_timeout=PT0.5S"),
)
_PORTS = 4
"""Of each member: for clients, for the group, for incremental and for full state transfer."""
_READY_SECONDS = 60.0
_PATIENCE_SECONDS = 45.0
_REFORM_SECONDS = 10.0
_NOTICE_SECONDS = 1.5
"""Who was frozen looks at its connections twice a second."""
_STATE, _VIEW = "grastate.dat", "gvwstate.dat"
_NOBODY = str(uuid.UUID(int=0))
_POSITION = re.compile(r"Recovered position:\s*([0-9a-f-]{36}):(-?\d+)")


def installed() -> str | None:
    """Return None when clusters can be started here, else what is missing, in a line."""
    if reason := mariadb.installed():
        return reason
    if not any(path.exists() for path in _PROVIDERS):
        return "Galera's library is missing"
    for program in ("rsync", "wsrep_sst_rsync"):
        if servers.program(program) is None:
            return f"there is no {program}"
    return None


class Member(mariadb.Mysqld):
    """One server of a cluster."""

    def __init__(
        self,
        directory: Path,
        number: int,
        data: Path,
        ports: Sequence[int],
        group: Sequence[str],
        host: places.Host | None = None,
    ) -> None:
        address = _address(host)
        flags = [
            *group,
            f"--wsrep-node-name=galera-{number}",
            f"--wsrep-node-incoming-address={address}:{ports[0]}",
            f"--wsrep-sst-receive-address={address}:{ports[3]}",
        ]
        super().__init__(directory, f"galera-{number}", data, ports[0], *flags, host=host)
        self._plain = list(self.command)
        self._state = data / _STATE

    def start(self) -> None:
        """Start it, if it does not run: after a crash from the position that its data recovers to, so that others need to send
        but what it missed. Does not wait."""
        if not self.running:
            state, number = self.position()
            known = int(number) >= 0
            self.command = [*self._plain, *([f"--wsrep-start-position={state}:{number}"] if known else [])]
            super().start()

    def begin(self) -> None:
        """Start it as the first of a cluster, whatever its data says of others. Does not wait."""
        if not self.running:
            state, number = self.position()
            _write_state(self.data, state, number, first=True)
            (self.data / _VIEW).unlink(missing_ok=True)
            self.command = [*self._plain, "--wsrep-new-cluster"]
            super().start()

    def position(self) -> tuple[str, str]:
        """Return how far the data of a server that does not run reaches: the cluster's identity and a number, -1 for unknown."""
        text = self._state.read_text() if self._state.exists() else ""
        saved = dict(re.findall(r"^(\w+):\s*(\S+)", text, re.MULTILINE))
        state, number = saved.get("uuid", _NOBODY), saved.get("seqno", "-1")
        if int(number) >= 0 or state == _NOBODY:  # Nobody's: a transfer did not end, and what is there is not whole.
            return state, number
        match = _POSITION.search(self._recovery() or self._recovery(last=True))
        return (match[1], match[2]) if match else (state, "-1")

    def _recovery(self, *, last: bool = False) -> str:
        """Return what it says while it recovers its data; nothing if it hangs before it has said how far, TimeoutError the `last`
        time. Seen once in some hundred."""
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "timeout": mariadb.START_SECONDS, **self.surroundings()}
        try:
            said: bytes = subprocess.run([*self._plain, "--wsrep-recover", "--skip-networking"], **how).stdout
        except subprocess.TimeoutExpired as late:
            said = late.stdout or b"" if _POSITION.search(str(late.stdout)) else b""
            if last and not said:
                raise TimeoutError(f"galera does not tell how far its data reaches: {late.stdout!r:.500}") from late
        return said.decode(errors="replace")

    def forget(self) -> None:
        """Lose, while it does not run, what its data is worth: it starts with a transfer of the whole state. From that, too, it
        would take back (10.11.19, rsync) a table that it was making when it was killed."""
        for lost in (self._state, *self.data.glob("ddl_recovery*.log")):
            lost.unlink(missing_ok=True)

    def status(self) -> dict[str, str]:
        """Return what it says of the cluster: the variables `wsrep_…`; nothing when it does not answer."""
        if not self.running or not self.greets():
            return {}
        with contextlib.suppress(RuntimeError, TimeoutError):
            rows = self.sql("SHOW STATUS LIKE 'wsrep%'", seconds=2)
            return {row[0]: row[1] if len(row) > 1 else "" for row in rows}
        return {}

    def primary(self) -> bool:
        """Whether it belongs to a majority that goes on."""
        return self.status().get("wsrep_cluster_status") == "Primary"

    def bootstrap(self) -> None:
        """Let it go on without the majority that is gone."""
        self.sql("SET GLOBAL wsrep_provider_options = 'pc.bootstrap=YES'")


class Cluster(servers.Stood):
    """Servers that hold the same data. `with` starts and stops them. `hosts` are where they run, one each, instead of this
    machine."""

    def __init__(self, size: int = 3, *settings: str, quick: bool = True, hosts: Sequence[places.Host] = ()) -> None:
        self._ground = ground.Ground()
        self._names = (f"{mariadb.USER}_{number}" for number in itertools.count(1))
        origin = _template(self._ground)
        free = ports.free(_PORTS * size)
        each = [free[_PORTS * n : _PORTS * n + _PORTS] for n in range(size)]
        stand = list(itertools.zip_longest(each, hosts))
        peers = ",".join(f"{_address(host)}:{mine[1]}" for mine, host in stand)
        self.members: list[Member] = []
        for number, (mine, host) in enumerate(stand, 1):
            data = self._ground.copied(origin, f"galera-{number}")
            flags = [*_flags(peers, mine, _QUICK if quick else (), _address(host)), *settings]
            self.members.append(Member(self._ground.directory, number, data, mine, flags, host))

    @property
    def hosts(self) -> str:
        """Where clients connect: `127.0.0.1:PORT,…`."""
        return ",".join(f"{member.address}:{member.port}" for member in self.members)

    def url(self, database: str = mariadb.USER) -> str:
        """Return the address of a database, with all hosts."""
        return f"mysql://{mariadb.USER}:{mariadb.PASSWORD}@{self.hosts}/{database}"

    def database(self) -> str:
        """Make a new empty database on the first member that goes on, return its address."""
        name = next(self._names)
        self._going_on().sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def start(self) -> None:
        """Start every member that does not run, and wait until all serve: with everything that the most advanced of them had.

        Those that run but have lost their majority go on without it first; when none runs, all are started as if they had
        never parted.
        """
        standing = [member for member in self.members if member.running]
        if not standing:
            self._revive()
        elif len(standing) < len(self.members):
            if not self._reformed(standing):
                self.bootstrap()
            for member in self.members:
                member.start()
        try:
            self.wait_ready(_PATIENCE_SECONDS)
        except TimeoutError:
            if not self._replaced():
                raise
            self.wait_ready()

    def bootstrap(self) -> Member:
        """Let the most advanced of the members that run go on, when the majority is gone; return it."""

        def told() -> list[tuple[int, Member]]:
            asked = ((member, member.status()) for member in self.members)  # One that does not run says nothing.
            return [(int(status.get("wsrep_last_committed", -1)), member) for member, status in asked if status]

        answering = servers.wait_for(told, "a member tells how far it is", _REFORM_SECONDS)
        _, best = max(answering, key=lambda each: each[0])
        best.bootstrap()
        servers.wait_for(best.primary, f"{best.name} goes on alone", _REFORM_SECONDS)
        return best

    def ready(self) -> bool:
        """Whether all members serve, together."""
        return all(_serves(member.status(), len(self.members)) for member in self.members)

    def wait_ready(self, seconds: float = _READY_SECONDS, *, settled: float = 0) -> None:
        """Wait until all members serve, and have done so for `settled` seconds: who was frozen believes for a moment that all is
        as it was. Raises TimeoutError with what the servers said, at once when one has ended."""
        broken = time.monotonic()

        def look() -> bool:
            nonlocal broken
            if ended := [member.name for member in self.members if not member.running]:
                raise TimeoutError(f"{', '.join(ended)} ended")
            if not self.ready():
                broken = time.monotonic()
                return False
            return time.monotonic() >= broken + settled

        try:
            servers.wait_for(look, "the cluster serves", seconds)
        except TimeoutError as error:
            raise TimeoutError("\n".join([str(error), *(member.said(40) for member in self.members)])) from None

    def kill(self, *members: Member) -> None:
        """Kill some members, or all, at one moment; their data stays."""
        chosen = members or self.members
        trees.kill(*(member.identity for member in chosen if member.identity is not None))
        for member in chosen:
            member.kill()

    def stop(self) -> None:
        """Let all members end in order, one after the other."""
        for member in self.members:
            member.stop(seconds=20)

    def cont(self) -> None:
        """Let all members go on that are frozen."""
        for member in self.members:
            member.cont()

    def mend(self) -> None:
        """Let all members serve again, whichever were frozen, killed, or parted. What was set globally stays set."""
        frozen = any(member.frozen for member in self.members)
        self.cont()
        try:
            self.start()
            if frozen:
                self.wait_ready(settled=_NOTICE_SECONDS)
        except TimeoutError:
            self.kill()
            self.start()

    def close(self) -> None:
        """Kill all members and remove their data. Allowed twice."""
        self.kill()
        self._ground.clear()

    def _revive(self) -> None:
        """Start all from nothing: as a view that never was, each from its own position; the most advanced has what is right."""
        if len(self.members) == 1:
            self.members[0].begin()
            return
        with futures.ThreadPoolExecutor(len(self.members)) as pool:
            positions = list(pool.map(lambda member: member.position(), self.members))
        names = sorted(str(uuid.uuid1()) for _ in self.members)
        for member, name, (state, number) in zip(self.members, names, positions, strict=True):
            _write_state(member.data, state, number)
            _write_view(member.data, name, names)
        for member in self.members:
            member.start()

    def _replaced(self) -> bool:
        """Start those anew from another's whole state that cannot come back; whether there were any, and another.

        A server that was killed amid a change of view refuses its own data ("SST script passed bogus GTID") and ends.
        """
        if not any(member.primary() for member in self.members):
            return False
        ended = [member for member in self.members if not member.running]
        lost = ended or [member for member in self.members if member.status().get("wsrep_local_state_comment") != "Synced"]
        for member in lost:
            member.kill()
            member.forget()
            member.start()
        return bool(lost)

    def _reformed(self, standing: Sequence[Member]) -> bool:
        """Whether those that run find together by themselves, which takes a moment after they lost others."""
        deadline = time.monotonic() + _REFORM_SECONDS
        majority = len(standing) > len(self.members) // 2
        while not any(member.primary() for member in standing):
            if time.monotonic() > deadline or not majority:
                return False
            time.sleep(0.1)
        return True

    def _going_on(self) -> Member:
        return servers.wait_for(lambda: next((m for m in self.members if m.primary()), None), "a member goes on", _REFORM_SECONDS)


def _serves(status: dict[str, str], size: int) -> bool:
    return (
        status.get("wsrep_ready") == "ON"
        and status.get("wsrep_local_state_comment") == "Synced"
        and status.get("wsrep_cluster_status") == "Primary"
        and status.get("wsrep_cluster_size") == str(size)
    )


def _address(host: places.Host | None) -> str:
    return host.address if host else "127.0.0.1"


def _flags(peers: str, ports: Sequence[int], timings: Sequence[str], address: str) -> list[str]:
    provider = next((path for path in _PROVIDERS if path.exists()), _PROVIDERS[0])
    options = [
        *(f"base_host={address}", f"base_port={ports[1]}", f"gmcast.listen_addr=tcp://{address}:{ports[1]}"),
        *(f"ist.recv_addr={address}:{ports[2]}", "gcache.size=32M", "gcache.page_size=32M", "pc.recovery=TRUE"),
        *timings,
    ]
    return [
        *("--wsrep-on=ON", f"--wsrep-provider={provider}"),
        *("--wsrep-cluster-name=callboard", f"--wsrep-cluster-address=gcomm://{peers}"),
        *(f"--wsrep-node-address={address}", "--wsrep-slave-threads=2", "--wsrep-sst-method=rsync"),
        *("--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", "--default-storage-engine=InnoDB"),
        f"--wsrep-provider-options={';'.join(options)}",
    ]


def _write_view(data: Path, name: str, names: Sequence[str]) -> None:
    lines = [
        f"my_uuid: {name}",
        "#vwbeg",
        f"view_id: 3 {names[0]} 3",
        "bootstrap: 0",
        *(f"member: {each} 0" for each in names),
        "#vwend",
    ]
    _write(data / _VIEW, lines)


def _write_state(data: Path, state: str, number: str, *, first: bool = False) -> None:
    lines = [
        "# GALERA saved state",
        "version: 2.1",
        f"uuid:    {state}",
        f"seqno:   {number}",
        f"safe_to_bootstrap: {int(first)}",
    ]
    _write(data / _STATE, lines)


def _write(path: Path, lines: Sequence[str]) -> None:
    """Anew, with the owner that the directory has."""
    path.unlink(missing_ok=True)
    path.write_text("\n".join(lines) + "\n")
    if (account := ground.account(mariadb.ACCOUNT)) is not None:
        shutil.chown(path, account, account)


def _template(here: ground.Ground) -> Path:
    """Return the data that every member starts from: that of a cluster of one."""
    plain = mariadb.template(here)
    return here.template(f"{plain.name.replace('template-mariadb', 'galera')}", lambda data: _fill(here, plain, data))


def _fill(here: ground.Ground, plain: Path, data: Path) -> None:
    subprocess.run(["cp", "-a", f"{plain}/.", str(data)], check=True)
    free = ports.free(_PORTS)
    _write_state(data, _NOBODY, "-1", first=True)
    first = mariadb.Mysqld(
        here.directory, "galera-template", data, free[0], *_flags("", free, _QUICK, _address(None)), "--wsrep-new-cluster"
    )
    first.start()
    try:
        mariadb.wait_greeting(first)
        servers.wait_for(
            lambda: first.sql("SHOW STATUS LIKE 'wsrep_ready'") == [("wsrep_ready", "ON")], "the template serves", 10
        )
    finally:
        first.stop(seconds=mariadb.START_SECONDS)
    for left in ("galera.cache", _VIEW):
        (data / left).unlink(missing_ok=True)
