"""Machines as a reader of the pages about operating has them: a network, a root of settings and data, and processes of their own.

Each is a set of namespaces beside a bridge (`places`), with the addresses and the hosts' names that the page shows. What it
writes into `/etc`, `/srv`, `/var/lib`, `/run`, `/home` and `/usr/local/bin` is the machine's alone. The reader is an ordinary
user who may `sudo`. Stand-ins are there for what such a machine cannot have: `apt-get` and `pip` find everything installed
already, `systemctl` does what the unit file says (`units`), `scp` copies between the machines.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from callboard.testing.engines import ground, places, servers

ROOT: Final = Path(__file__).parents[2]
PREFIX: Final = "10.0.0."
READER: Final = "reader"
SECONDS: Final = 120.0
_OWN: Final = ("srv", "run", "home", "var/lib", "usr/local/bin")
_INIT: Final = """\
trap '' CHLD
set -eu
here=$1 name=$2; shift 2
mount --bind "$here/.." /mnt
here=/mnt/$name
hostname "$name"
ip addr flush dev eth0
ip addr add "$ADDRESS/24" dev eth0
kept=0
for each in $OPENED; do
    kept=$((kept + 1)); mkdir "$here/kept-$kept"; mount --bind "$each" "$here/kept-$kept"
done
for each in $CLOSED; do mount -t tmpfs -o mode=755 tmpfs "$each"; done
chmod 1777 /tmp
cp -a /etc "$here/etc"
mkdir "$here/programs"; mount --bind /usr/local/bin "$here/programs"
mkdir -p "$here/usr/local/bin"; ln -s "$here"/programs/* "$here/usr/local/bin"
for each in etc $OWN; do mkdir -p "$here/$each"; mount --bind "$here/$each" "/$each"; done
kept=0
for each in $OPENED; do
    kept=$((kept + 1)); mkdir -p "$each"; mount --bind "$here/kept-$kept" "$each"
done
rm -f /etc/resolv.conf; touch /etc/resolv.conf
printf '127.0.0.1\\tlocalhost\\n127.0.1.1\\t%s\\n::1\\tlocalhost\\n' "$name" >/etc/hosts
printf '%s sufficient pam_permit.so\\n' auth account session >/etc/pam.d/su
useradd --create-home --shell /bin/bash "$READER"
touch "$here/ready"
exec sleep infinity
"""
_STAND_INS: Final = {
    "sudo": """\
if [ "$1" = -u ]; then account=$2; shift 2; set -- runuser -u "$account" -- "$@"; fi
exec su root -s /bin/sh -c 'exec "$@"' -- sudo "$@"
""",
    "apt-get": """\
case "$*" in
*" zookeeper"*)
    mkdir -m 750 /var/lib/zookeeper
    ln -s /etc/zookeeper/conf/myid /var/lib/zookeeper/myid
    chown -R zookeeper /var/lib/zookeeper;;
*" mariadb-server"*)
    install -d -o mysql /run/mysqld
    mariadb-install-db --user=mysql --skip-test-db >/dev/null;;
*) exit 100;;
esac
""",
    "python3": """\
mkdir -p "$3/bin"
ln -s PREFIX/bin/callboard "$3/bin/callboard"
printf '#!/bin/sh\\n' >"$3/bin/pip"
chmod 755 "$3/bin/pip"
""",
    "scp": """\
for last; do :; done
machine=${last%%:*}
while [ $# -gt 1 ]; do cp "$1" "/mnt/server-${machine##*[-.]}/home/READER/${last#*:}"; shift; done
""",
    "systemctl": 'exec PREFIX/bin/python UNITS "$@"\n',
}


def available() -> str | None:
    """Return None when such machines can be made here, else what is missing, in a line."""
    absent = [name for name in ("su", "runuser", "useradd", "mount") if servers.program(name) is None]
    return f"there is no {absent[0]}" if absent else places.available()


class Machine:
    """One of them."""

    def __init__(self, directory: Path, number: int, host: places.Host) -> None:
        self.name = f"server-{number}"
        self.address = f"{PREFIX}{number}"
        here = directory / self.name
        here.mkdir()
        command = [*host.prefix, "unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        opened = _opened()
        closed = {"/tmp", *(str(top) for path in opened if (top := _closed(path)) and str(top.relative_to("/")) not in _OWN)}
        given = {"ADDRESS": self.address, "READER": READER, "OWN": " ".join(_OWN)}
        given |= {"OPENED": " ".join(map(str, opened)), "CLOSED": " ".join(closed)}
        environment = [f"{name}={value}" for name, value in given.items()]
        self._init = servers.Server(
            directory, f"{self.name}-init", ["env", *environment, *command, "sh", "-c", _INIT, "init", str(here), self.name]
        )
        self._here = here
        self._host = host

    def on(self) -> None:
        """Start it, as its installation left it."""
        self._init.start()

    def ready(self) -> bool:
        """Whether it has started."""
        assert self._init.running, self._init.said()
        return (self._here / "ready").exists()

    def off(self) -> None:
        """Take its power: nothing comes from it any more, and everything on it ends at once."""
        self._host.cut()
        self._inside("sh", "-c", "kill -9 -1")

    def boot(self, *units: str) -> None:
        """Let it have its power back; these are started at every boot, the last one after the others."""
        self._host.heal()
        *first, last = units
        begun = " ".join(f"sudo systemctl start {each} &" for each in first)
        self.run(f"sudo rm -rf /run/units; {begun} wait; sudo systemctl start {last}")

    def close(self) -> None:
        """Take it away. Allowed twice."""
        self._init.kill()

    def run(self, text: str) -> str:
        """Run commands in the reader's shell, in the home directory; return what they said. AssertionError when they fail."""
        path = "/mnt/programs:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
        shell = ["env", "-i", f"PATH={path}", f"HOME=/home/{READER}", "LANG=C.UTF-8", "bash", "-c"]
        ran = self._inside("runuser", "-u", READER, "--", *shell, f"cd; set -eo pipefail\n{text}")
        assert ran.returncode == 0 and "Traceback" not in ran.stdout, f"on {self.name}:\n{text}\n{ran.stdout}\n{self.said()}"
        return ran.stdout

    def said(self) -> str:
        """The ends of what its services said."""
        logs = sorted((self._here / "run/units").glob("*.log"))
        return "\n".join(f"{log.stem}: {log.read_text(errors='replace')[-3000:]}" for log in logs)

    def _inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", "--target", self._pid(), "--mount", "--uts", "--pid", "--net", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def _pid(self) -> str:
        process = self._init.identity
        assert process is not None, f"{self.name} is off"
        return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]


class Machines(servers.Stood):
    """Some of them on one network. `with` starts and ends them all."""

    def __init__(self, size: int) -> None:
        self._ground = ground.Ground()
        self._network = places.Network(size)
        self.all: list[Machine] = []

    def start(self) -> None:
        self._network.start()
        directory = self._ground.directory
        (directory / "programs").mkdir()
        names = {"PREFIX": sys.prefix, "READER": READER, "UNITS": f"{ROOT}/tests/acceptance/units.py"}
        for name, text in _STAND_INS.items():
            path = directory / "programs" / name
            path.write_text("#!/bin/sh -e\n" + re.sub("|".join(names), lambda found: names[found[0]], text))
            path.chmod(0o755)
        self.all = [Machine(directory, number, host) for number, host in enumerate(self._network.hosts, 1)]
        for each in self.all:
            each.on()
        servers.wait_for(lambda: all(each.ready() for each in self.all), "the machines have started", SECONDS)

    def close(self) -> None:
        for each in self.all:
            each.close()
        self._network.close()
        self._ground.clear()


def _opened() -> list[Path]:
    """What every user of a machine must reach, though it may lie where only its owner looks."""
    found = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), ROOT.resolve()}
    return sorted(path for path in found if _closed(path))


def _closed(path: Path) -> Path | None:
    """The topmost directory on the way to it that is a machine's own, or lets nobody through but its owner."""
    covered = {"/tmp", *(f"/{each}" for each in _OWN)}
    return next((top for top in reversed(path.parents) if str(top) in covered or not top.stat().st_mode & 0o001), None)
