"""How long it takes until what a silent server had is elsewhere, beside what ZooKeeper and Galera needed by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import msgspec

from tests.faults import breaking
from tests.faults.conftest import Measured
from tests.faults.deployment import boot
from tests.faults.servers.clients import Seen
from tests.faults.servers.cluster import Cluster, Office, Server

PATIENCE_SECONDS = 60.0


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from the moment in which a server was heard of last."""

    zookeeper: float
    """Its sessions were over, as one of the servers that are left says."""
    galera: float
    """A bare connection to the nodes that are left could write."""
    store: float
    """A job was acknowledged that was submitted since then: Callboard could write."""
    jobs: float
    """The last of its jobs ran elsewhere; 0: it had none."""
    names: float
    """The last of its services was answered elsewhere; 0: it had none."""

    def told(self, what: str, measured: Measured, bound: float) -> None:
        """Tell how far beyond the slower one of what it stands on it was."""
        base = max(self.zookeeper, self.galera)
        beside = f"(ZooKeeper {self.zookeeper:.1f} s, Galera {self.galera:.1f} s; submissions {self.store:.1f} s)"
        measured(f"{what}: jobs elsewhere after {self.jobs:.1f} s {beside}, beyond these", max(self.jobs - base, 0), bound)
        measured(f"{what}: names elsewhere after {self.names:.1f} s {beside}, beyond these", max(self.names - base, 0), bound)


async def of(
    cluster: Cluster, seen: Seen, gone: Server, at: int, offices: Mapping[str, Office], jobs: Collection[str]
) -> Silence:
    """Wait until everything of a server that went silent `at` is elsewhere: its services, and these jobs of its worker."""
    worker, sessions, wait = gone.worker(), gone.sessions(), gone.eventually
    ended: dict[str, int] = {}

    async def galera() -> None:
        ended["galera"] = await asyncio.to_thread(breaking.back, cluster.bare(gone))

    async def zookeeper() -> None:
        await wait(lambda: cluster.gone(sessions), PATIENCE_SECONDS)
        ended["zookeeper"] = boot()

    async def stored() -> None:
        await wait(lambda: seen.stored_at(at), PATIENCE_SECONDS)
        ended["store"] = seen.stored_at(at) or 0

    async def moved() -> None:
        await wait(lambda: cluster.book.elsewhere(jobs, worker).keys() >= set(jobs), PATIENCE_SECONDS)
        ended["jobs"] = max(cluster.book.elsewhere(jobs, worker).values(), default=at)

    async def answered(name: str, office: Office) -> None:
        await wait(lambda: seen.answered_at(name, office.epoch), PATIENCE_SECONDS)
        ended[name] = seen.answered_at(name, office.epoch) or 0

    theirs = {
        name.replace(".", "@"): office
        for name, office in offices.items()
        if office.server == gone.name and name.startswith("billing.")
    }
    await asyncio.gather(galera(), zookeeper(), stored(), moved(), *(answered(name, office) for name, office in theirs.items()))
    seconds = {name: (when - at) / 1e9 for name, when in ended.items()}
    return Silence(
        zookeeper=seconds["zookeeper"],
        galera=seconds["galera"],
        store=seconds["store"],
        jobs=seconds["jobs"],
        names=max((seconds[name] for name in theirs), default=0),
    )
