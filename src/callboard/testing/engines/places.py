"""Machines that are none: network namespaces on a bridge, each with an address of its own, to cut servers off from each other.

    with places.Network(3) as network:
        server = servers.Server(directory, "echo", [*network.hosts[0].prefix, "socat", …])
        network.hosts[0].cut()

Programs of this machine reach every host by its address, as if they stood beside the bridge; so do the hosts each other. What
runs inside one is reached from there also when it is cut off. Every namespace, the bridge's too, lives as long as a process that
sleeps in it, which `ground` ends with all else; the kernel takes the links away. Linux, as root.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Sequence
from typing import Final

from callboard.testing.engines import ground, servers

_PROGRAMS: Final = {"ip": "iproute2", "ss": "iproute2", "iptables": "iptables", "unshare": "util-linux", "nsenter": "util-linux"}
"""Those that make hosts, and those by which what goes between them is disturbed."""
PACKAGES: Final = tuple(sorted(set(_PROGRAMS.values())))
_TRIES: Final = 50
_SECONDS: Final = 10.0


def installed() -> str | None:
    """Return None when the programs are there that hosts are made with, else what is missing, in a line."""
    absent = [name for name in _PROGRAMS if servers.program(name) is None]
    return f"there is no {absent[0]}" if absent else None


def available() -> str | None:
    """Return None when hosts can be made here, else why not, in a line."""
    if missing := installed():
        return missing
    if os.geteuid() != 0:
        return "network namespaces are made by root alone"
    tried = subprocess.run(["unshare", "--net", "ip", "link", "add", "trial", "type", "bridge"], capture_output=True, text=True)
    return tried.stderr.strip().partition("\n")[0] or "no namespace can be made" if tried.returncode else None


class Host:
    """One of them. Programs are started in it by putting `prefix` before their command; their pid stays the one of `Popen`."""

    def __init__(self, network: Network, number: int, address: str, holder: servers.Server) -> None:
        self.address = address
        self._network = network
        self._number = number
        self._holder = holder

    @property
    def prefix(self) -> list[str]:
        """The command that runs another one here."""
        return _inside(self._holder)

    def cut(self) -> None:
        """Let nothing through, neither way and without a word, between it and all others. Allowed twice."""
        self._network.switch("link", "set", _port(self._number), "nomaster")

    def heal(self) -> None:
        """Connect it again. Allowed twice."""
        self._network.switch("link", "set", _port(self._number), "master", _BRIDGE)


class Network(servers.Stood):
    """Hosts on one bridge. `with` makes it and takes it away; what was started in it is for its owner to end, before."""

    def __init__(self, size: int) -> None:
        self._ground = ground.Ground()
        self._size = size
        self._switch = _holder(self._ground, "switch")
        self._holders = [_holder(self._ground, f"host-{number}") for number in range(1, size + 1)]
        self._place = ""
        self.hosts: Sequence[Host] = ()

    @property
    def here(self) -> str:
        """This machine's own address beside the bridge."""
        return f"{self._place}.254"

    def start(self) -> None:
        """Make it, if it is not there. OSError with what the kernel said."""
        if self.hosts:
            return
        self._switch.start()
        _settled(self._switch)
        self.switch("link", "add", _BRIDGE, "type", "bridge", "forward_delay", "0")
        self.switch("link", "set", _BRIDGE, "up")
        self._join_own()
        self.hosts = [self._join(number, holder) for number, holder in enumerate(self._holders, 1)]

    def heal(self) -> None:
        """Connect all hosts again."""
        for host in self.hosts:
            host.heal()

    def close(self) -> None:
        """Take it away. Allowed twice."""
        self.hosts = ()
        for holder in (*self._holders, self._switch):
            holder.kill()
        self._ground.clear()

    def switch(self, *arguments: str) -> None:
        """Ask `ip` something where the bridge is."""
        _ip(*arguments, inside=self._switch)

    def _join_own(self) -> None:
        """Put this machine beside the bridge, on a network that nobody else has: the link's name is taken by whoever is first."""
        pid = _pid(self._switch)
        for number in random.sample(range(1 << 14), _TRIES):
            high, low = 64 + (number >> 8), number & 255
            link = f"callboard-{high:02x}{low:02x}"
            try:
                _ip("link", "add", link, "type", "veth", "peer", "name", _port(0), "netns", pid)
            except FileExistsError:
                continue
            self._place = f"10.{high}.{low}"
            _ip("addr", "add", f"{self.here}/24", "dev", link)
            _ip("link", "set", link, "up")
            self.switch("link", "set", _port(0), "master", _BRIDGE, "up")
            return
        raise OSError(f"no network is free after {_TRIES} tries")

    def _join(self, number: int, holder: servers.Server) -> Host:
        holder.start()
        _settled(holder)
        made = Host(self, number, f"{self._place}.{number}", holder)
        self.switch("link", "add", _port(number), "type", "veth", "peer", "name", "eth0", "netns", _pid(holder))
        self.switch("link", "set", _port(number), "master", _BRIDGE, "up")
        _ip("link", "set", "lo", "up", inside=holder)
        _ip("addr", "add", f"{made.address}/24", "dev", "eth0", inside=holder)
        _ip("link", "set", "eth0", "up", inside=holder)
        return made


_BRIDGE: Final = "bridge"


def _port(number: int) -> str:
    """The link of a host, where the bridge is; 0 is this machine's."""
    return f"port-{number}"


def _holder(of: ground.Ground, name: str) -> servers.Server:
    return servers.Server(of.directory, name, ["unshare", "--net", "sleep", "infinity"])


def _pid(holder: servers.Server) -> str:
    process = holder.identity
    if process is None:
        raise OSError(f"{holder.name} has ended: {holder.said()}")
    return str(process.pid)


def _settled(holder: servers.Server) -> None:
    """Wait until it has left our namespace."""
    own = os.readlink("/proc/self/ns/net")
    servers.wait_for(lambda: os.readlink(f"/proc/{_pid(holder)}/ns/net") != own, f"{holder.name} is in its namespace", _SECONDS)


def _inside(holder: servers.Server) -> list[str]:
    return ["nsenter", "--target", _pid(holder), "--net", "--"]


def _ip(*arguments: str, inside: servers.Server | None = None) -> None:
    """Run `ip`. OSError with what it said; FileExistsError when there is one of that name."""
    prefix = _inside(inside) if inside is not None else []
    done = subprocess.run([*prefix, servers.found("ip"), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise (FileExistsError if "File exists" in done.stderr else OSError)(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
