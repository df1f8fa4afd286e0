"""A reader of the how-to pages: a machine on which a server was just installed, and a shell in an empty directory.

What a page writes into `/etc` goes into a directory of its own, from which the servers start: with the settings of Debian's
package as they are there, a new data directory, and a free port. `sudo` needs no password here, and `systemctl` does to the
private server what it would do to the installed one.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from callboard.databases import sockets
from callboard.kit import ports
from callboard.testing.engines import galera, ground, haproxy, mariadb, postgresql, servers

HOWTO = Path(__file__).parents[2] / "docs/howto/engines"
DEADLINE_SECONDS = 180
GATEWAY = 8321
_BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LEFT_OUT = re.compile(r"^(sudo apt-get|pip) install.*$", re.MULTILINE)
_SYSTEMCTL = re.compile(r"^sudo (?:systemctl (?P<verb>.+) (?P<unit>\w+)|(?P<found>galera_new_cluster))$", re.MULTILINE)
_AT = re.compile(r"# on (.+)\n")
_SUDO = '#!/bin/sh\n[ "$1" = -u ] && shift 2\nexec "$@"\n'


class Installed(Protocol):
    """One server as a package brings it: how its pages call things, and what that is here."""

    names: dict[str, str]

    def do(self, verb: str) -> None:
        """What systemctl is asked: start, stop, restart, reload."""

    def programs(self) -> Mapping[str, str]:
        """Scripts of the programs that know without being told where the server is."""

    def close(self) -> None: ...


class Reader:
    """Follows pages in an empty directory. A piece whose first line is `# on db1`, or `# on every node`, is done there.

    `places` are the machines by name, each with what is installed on it; the reader's own has the name "".
    """

    def __init__(self, directory: Path, places: Mapping[str, Mapping[str, Installed]], names: Mapping[str, str]) -> None:
        self.directory = directory / "home"
        self.directory.mkdir()
        self._state = directory / "environment"
        self._state.write_text("")
        self._places = {"": {}, **places}
        (port,) = ports.free()
        self._names = {place: {str(GATEWAY): str(port), **names} for place in self._places}
        self._programs = {place: directory / f"bin-{place}" for place in self._places}
        for place, units in self._places.items():
            self._programs[place].mkdir()
            self._program(place, "sudo", _SUDO)
            for installed in units.values():
                self._names[place] |= installed.names
                for name, text in installed.programs().items():
                    self._program(place, name, text)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CALLBOARD")}
        self._environment = {**kept, "CALLBOARD_GATEWAY_PORT": str(port)}

    def follow(self, page: str, until: str = "") -> int:
        """Run a page's commands in their order, maybe until a heading; AssertionError where they do not say what it shows.

        Returns how many pieces it ran.
        """
        said, followed = "", 0
        for language, text in blocks(page, until):
            if language == "sh":
                said = self.run(_LEFT_OUT.sub("", text))
                followed += 1
                assert "Traceback" not in said, said
            else:
                assert re.search(pattern(text), said), f"{page} shows\n{text}\nand this was said:\n{said}"
        return followed

    def run(self, text: str) -> str:
        """Run commands; return what they say, with the page's names for things."""
        at = _AT.match(text)
        every = ", ".join(name for name in self._places if name)
        places = at[1].replace("every node", every).split(", ") if at else [""]
        return "".join(self._run(place, text) for place in places)

    def leave(self) -> None:
        """Stop what the page left running."""
        self._bash("", "callboard down --grace 1")

    def _run(self, place: str, rest: str) -> str:
        said = ""
        while found := _SYSTEMCTL.search(rest):
            said += self._bash(place, rest[: found.start()])
            self._places[place][found["unit"] or "mariadb"].do(found["verb"] or found["found"])
            rest = rest[found.end() :]
        return re.sub(r"[ \t]+$", "", said + self._bash(place, rest), flags=re.MULTILINE)

    def _bash(self, place: str, text: str) -> str:
        if not text.strip():
            return ""
        for theirs, ours in self._names[place].items():
            text = text.replace(theirs, ours)
        kept = shlex.quote(str(self._state))
        path = f"{self._programs[place]}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        ran = subprocess.run(
            ["bash", "-c", f"set -a; . {kept}; PATH={shlex.quote(path)}\n{text}\nexport -p > {kept}"],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=DEADLINE_SECONDS,
            text=True,
        )
        said = ran.stdout
        for theirs, ours in self._names[place].items():
            said = said.replace(ours, theirs)
        return said

    def _program(self, place: str, name: str, text: str) -> None:
        path = self._programs[place] / name
        path.write_text(text)
        path.chmod(0o755)


class FreshMariaDb:
    """MariaDB as Debian's package sets it up, with nothing in it."""

    def __init__(self) -> None:
        self._ground = ground.Ground()
        here = self._ground.directory
        self._account = ground.account(mariadb.ACCOUNT)
        self._etc = _copied(Path("/etc/mysql"), here / "etc-mysql")
        (port,) = ports.free()
        self._data = here / "data"
        self._data.mkdir(mode=0o700)
        if self._account:
            shutil.chown(self._data, self._account)
        root = () if self._account else ("--auth-root-authentication-method=normal",)
        self._run(servers.found("mariadb-install-db"), f"--datadir={self._data}", "--skip-test-db", *root)
        self._socket = self._data / "mysqld.sock"
        where = (f"--datadir={self._data}", f"--socket={self._socket}", f"--pid-file={self._data}/pid", f"--port={port}")
        command = [servers.found("mariadbd"), self._settings, *where]
        self._server = servers.Server(here, "mariadb", command, account=self._account)
        self.names = {"/etc/mysql": str(self._etc), "3306": str(port)}
        self._port = port
        self.do("start")

    @property
    def _settings(self) -> str:
        return f"--defaults-file={self._etc}/my.cnf"

    def do(self, verb: str) -> None:
        if verb in ("stop", "restart"):
            self._server.stop()
        if verb in ("start", "restart"):
            self._server.start()
            servers.wait_for(self._serves, "mariadb serves", mariadb.START_SECONDS)

    def programs(self) -> Mapping[str, str]:
        there = [name for name in ("mariadb", "mariadb-dump") if servers.program(name)]
        where = f"{self._settings} --socket={self._socket}"
        return {name: f'#!/bin/sh\nexec {servers.found(name)} {where} "$@"\n' for name in there}

    def close(self) -> None:
        self._server.kill()
        self._ground.clear()

    def _serves(self) -> bool:
        assert self._server.running, self._server.said()
        return sockets.answers(("127.0.0.1", self._port), b"", 0.5)

    def _run(self, program: str, *arguments: str) -> None:
        command = [program, self._settings, *arguments]
        made = subprocess.run(
            command, capture_output=True, text=True, **servers.surroundings(self._ground.directory, self._account)
        )
        assert made.returncode == 0, made.stdout + made.stderr


class Joined:
    """A member of a private cluster, which its page forms: of servers that know each other's addresses already."""

    def __init__(self, member: galera.Member, directory: Path) -> None:
        self._member = member
        self.names = {"/etc/mysql/mariadb.conf.d": str(directory), "/var/lib/mysql": str(member.data)}

    def do(self, verb: str) -> None:
        if verb == "kill --signal=KILL":
            self._member.kill()
        if verb in ("stop", "restart"):
            self._member.stop(mariadb.START_SECONDS)
        if verb == "galera_new_cluster":
            self._member.begin()
        if verb in ("start", "restart"):
            self._member.start()
        if self._member.running:
            servers.wait_for(lambda: self._member.status().get("wsrep_ready") == "ON", "a node serves", mariadb.START_SECONDS)

    def programs(self) -> Mapping[str, str]:
        client = f"exec {servers.found('mariadb')} --no-defaults --socket={self._member._socket} --user=root"
        return {"mariadb": f'#!/bin/sh\n{client} "$@"\n'}

    def close(self) -> None:
        """The cluster has its own end."""


class FreshHaProxy:
    """HAProxy without settings yet; a page has it listen at `port`, and a server behind it answers to `word`."""

    def __init__(self, port: str = "3307", word: bytes = b"") -> None:
        self._ground = ground.Ground()
        here = self._ground.directory
        (self._port,) = ports.free()
        self._word = word
        self.names = {"/etc/haproxy": str(here), port: str(self._port)}
        self._server = servers.Server(here, "haproxy", [servers.found("haproxy"), "-f", f"{here}/haproxy.cfg", "-db"])

    def do(self, verb: str) -> None:
        assert verb == "restart"
        self._server.stop()
        self._server.start()
        at = ("127.0.0.1", self._port)
        servers.wait_for(lambda: sockets.answers(at, self._word, 0.5), "a server greets", haproxy.START_SECONDS)

    def programs(self) -> Mapping[str, str]:
        return {"haproxy": f'#!/bin/sh\nexec {servers.found("haproxy")} "$@"\n'}

    def close(self) -> None:
        self._server.kill()
        self._ground.clear()


class FreshPostgreSql:
    """PostgreSQL as Debian's package sets it up, with nothing in it."""

    def __init__(self) -> None:
        self._ground = ground.Ground()
        here = self._ground.directory
        self._account = ground.account(postgresql.ACCOUNT)
        self._data = here / "data"
        self._data.mkdir(mode=0o700)
        if self._account:
            shutil.chown(self._data, self._account)
        surroundings = servers.surroundings(here, self._account)
        make = [postgresql._found("initdb"), f"--pgdata={self._data}", "--username=postgres", "--no-sync"]
        make += ["--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
        made = subprocess.run(make, capture_output=True, text=True, **surroundings)
        assert made.returncode == 0, made.stdout + made.stderr
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write("include_dir = 'conf.d'\n")  # As Debian has it.
        (self._data / "conf.d").mkdir()
        if self._account:
            shutil.chown(self._data / "conf.d", self._account)
        (self.port,) = ports.free()
        where = ("-c", f"port={self.port}", "-c", f"unix_socket_directories={self._data}")
        command = [postgresql._found("postgres"), "-D", str(self._data), *where, "-c", "dynamic_shared_memory_type=mmap"]
        self._server = servers.Server(here, "postgresql", command, account=self._account)
        self._server.farewell = postgresql.PostgreSql.farewell
        self.names = {"/etc/postgresql/15/main": str(self._data), "5432": str(self.port)}
        self.do("start")

    def do(self, verb: str) -> None:
        if verb in ("stop", "restart"):
            self._server.stop()
        if verb in ("start", "restart"):
            self._server.start()
            servers.wait_for(self._serves, "postgresql serves", postgresql.START_SECONDS)
        if verb == "reload":
            self._server.signal(signal.SIGHUP)

    def programs(self) -> Mapping[str, str]:
        where = f"export PGHOST={self._data} PGPORT={self.port} PGUSER=postgres\n"
        return {name: f'#!/bin/sh\n{where}exec {postgresql._found(name)} "$@"\n' for name in ("psql", "pg_dump")}

    def close(self) -> None:
        self._server.kill()
        self._ground.clear()

    def _serves(self) -> bool:
        assert self._server.running, self._server.said()
        path = self._data / "postmaster.pid"
        lines = path.read_text().splitlines() if path.exists() else []
        return len(lines) > 7 and lines[7].strip() == "ready"


def blocks(page: str, until: str = "") -> Iterator[tuple[str, str]]:
    """The pieces of a page that are commands, and what they say."""
    text = (HOWTO / f"{page}.md").read_text()
    yield from _BLOCK.findall(text[: text.index(f"\n## {until}\n")] if until else text)


def pattern(shown: str) -> str:
    """What is said somewhere where the page shows this: `…` stands for anything."""
    return re.escape(shown.strip()).replace("…", "(?s:.*?)")


def _copied(origin: Path, to: Path) -> Path:
    """A copy of a package's settings, in which files name each other at their new place."""
    shutil.copytree(origin, to, symlinks=False, ignore=shutil.ignore_patterns("debian.cnf"))
    to.chmod(0o755)
    for path in to.rglob("*.cnf"):
        path.write_text(path.read_text().replace(str(origin), str(to)))
    return to
