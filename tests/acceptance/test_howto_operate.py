"""From one machine to three servers: the page followed word for word, on machines that were just installed.

See `machines` for what they are, and for what stands in for the rest of a machine. With `--long`, on to a fourth server, and to
what the next page says of upgrades.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, Final

import pytest

from callboard.testing.engines import galera, mariadb, servers, zookeeper
from tests.acceptance import machines, readers
from tests.conftest import INSTALL

HOWTO: Final = Path(__file__).parents[2] / "docs/howto"
PAGES: Final = ("three-servers", "drain-and-upgrade")
DEADLINE_SECONDS: Final = 120
PASSWORD: Final = "open%2Fsesame%4042"
"""Of the database's user, as the page about Galera makes it."""
APP: Final = """
import socket
import time

from callboard import Call, Callboard

app = Callboard("shop")


@app.job(queue="pack")
def pack(order: int, seconds: float = 0) -> str:
    time.sleep(seconds)
    return socket.gethostname()


@app.service("till", active="one")
class Till:
    async def where(self, call: Call) -> str:
        return socket.gethostname()
"""
SECTION: Final = re.compile(r"^## (.+)\n((?:(?!^## ).*\n)*)", re.MULTILINE)
PIECE: Final = re.compile(r"^```(sh|text|toml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
AT: Final = re.compile(r"# on (.+)\n")


class Reader:
    """Follows the pages, section by section. What is done on every server is done on those that there are by then."""

    def __init__(self, standing: machines.Machines) -> None:
        self.machines = {each.name: each for each in standing.all}
        self.every = list(self.machines)[:3]
        self.sections = dict(each for page in PAGES for each in sections(f"operate/{page}.md"))

    def pieces(self, heading: str, language: str = "sh") -> list[str]:
        """The commands of a section."""
        return [text for found, text in PIECE.findall(self.sections[heading]) if found == language]

    def follow(self, heading: str, *only: str) -> str:
        """Do what a section says, on these machines alone if any are named; return what was said last."""
        said = command = ""
        for language, text in PIECE.findall(self.sections[heading]):
            if language == "sh":
                command, said = text, self.do(text, *only)
            elif not only and language == "toml":
                self.machines["server-1"].run(f"mkdir cluster; cat >cluster/cluster.toml <<'END'\n{filled(text)}END")
            elif not only:
                self._look(command, said, text)
        return said

    def _look(self, command: str, said: str, shown: str) -> None:
        """What is shown may take a moment: the reader looks again."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not re.search(readers.pattern(shown), said):
            assert time.monotonic() < deadline, f"the page shows\n{shown}\nand this was said:\n{said}"
            said = self.do(command)

    def do(self, text: str, *only: str) -> str:
        """Run commands where they are to be run; return what they say."""
        at = AT.match(text)
        assert at, f"it does not say where this is run:\n{text}"
        places = self.every if at[1] == "every server" else at[1].split(", ")
        if only:
            places = list(only) if at[1] == "every server" else []
        if "reload" in text:
            return "".join(self.machines[place].run(text) for place in places)
        with futures.ThreadPoolExecutor(len(self.machines)) as pool:
            return "".join(pool.map(lambda place: self.machines[place].run(filled(text)), places))

    def set_up_galera(self) -> None:
        """Do what the other page says that this one points to."""
        theirs = dict(sections("engines/galera.md"))
        for heading in ("Set up the servers", "A database and a user"):
            assert heading in self.sections["The database"]
            self.sections[heading] = re.sub(r"\bdb(?=\d)", "server-", theirs[heading]).replace("every node", "every server")
            self.follow(heading)

    def install_app(self, *names: str) -> None:
        for name in names:
            self.machines[name].run(f"sudo tee /srv/shop/shop.py >/dev/null <<'END'\n{APP}\nEND")

    def says(self, at: str, *tokens: str) -> Any:
        """What a command of `callboard` prints there."""
        return json.loads(self.machines[at].run(f"callboard {' '.join(tokens)} --json"))

    def until(self, condition: Callable[[], object], what: str) -> None:
        servers.wait_for(condition, what, DEADLINE_SECONDS)

    def serving(self, at: str, file: int) -> list[str]:
        """The servers that serve by this version of the file, as one of them sees it."""
        said = self.says(at, "view")["servers"].values()
        return sorted(each["server"] for each in said if (each["state"], each["file"]) == ("serving", file))

    def nodes(self, at: str) -> dict[str, set[str]]:
        """The nodes of each server."""
        found: dict[str, set[str]] = {}
        for node in self.says(at, "nodes")["nodes"]:
            found.setdefault(node["server"], set()).add(node["incarnation"])
        return found

    def slots(self, at: str) -> set[tuple[str, int]]:
        """How many slots the workers of each server have."""
        roles = ((node["server"], role) for node in self.says(at, "nodes")["nodes"] for role in node["roles"])
        return {(server, role["slots"]) for server, role in roles if role["role"] == "worker"}

    def till(self, at: str) -> str:
        """Which server answers for the service."""
        found: str = self.says(at, "call", "till", "where", "--timeout", "60")["result"]
        return found

    def submit(self, at: str, number: int, seconds: float) -> None:
        """Submit some jobs at once, and wait for none."""
        self.machines[at].run(f"seq {number} | xargs -P {number} -I N callboard submit shop.pack order=N seconds={seconds}")

    def results(self, at: str) -> list[str] | None:
        """On which servers the jobs ran, when all have completed."""
        jobs = self.says(at, "jobs")["jobs"]
        return [job["result"] for job in jobs] if {job["state"] for job in jobs} == {"completed"} else None


def filled(text: str) -> str:
    """What the page leaves to its reader."""
    return text.replace("PASSWORD", PASSWORD)


def sections(page: str) -> list[tuple[str, str]]:
    """The headings of a page, and what is below each."""
    return SECTION.findall((HOWTO / page).read_text())


@pytest.fixture
def reader() -> Iterator[Reader]:
    """One who has three servers, all as the page has them."""
    reason = machines.available() or zookeeper.installed() or galera.installed() or mariadb.driver()
    if reason:
        pytest.skip(f"needs network namespaces, ZooKeeper and Galera ({reason}): {INSTALL}")
    with machines.Machines(4) as standing:
        made = Reader(standing)
        made.follow("Names")
        made.follow("ZooKeeper")
        made.set_up_galera()
        made.follow("Callboard and your app")
        made.install_app(*made.every)
        made.follow("The file")
        made.follow("Certificates")
        said = made.follow("Start")
        assert json.loads(said) in made.every
        yield made


def join(reader: Reader) -> None:
    """Have the fourth server do what the first three did, as its section says."""
    first, second = reader.pieces("Another server for work alone")
    assert "*Names*, *Callboard and your app* and *Certificates*" in reader.sections["Another server for work alone"]
    reader.do(first)
    reader.follow("Names", "server-4")
    reader.follow("Callboard and your app", "server-4")
    reader.install_app("server-4")
    reader.follow("Certificates", "server-4")
    reader.do(second)
    reader.every.append("server-4")


def dies_and_returns(reader: Reader, name: str, other: str) -> None:
    """Take a server's power while jobs run; the others do them. Let it come back, and be whole again."""
    reader.submit(other, 8, seconds=2)
    reader.machines[name].off()
    reader.until(lambda: reader.results(other), "all jobs have completed")
    assert reader.till(other) != name
    reader.machines[name].boot("zookeeper", "mariadb", "callboard")
    reader.until(lambda: reader.serving(other, file=3) == reader.every, f"{name} is back")
    size = "sudo mariadb -N -e \"SHOW STATUS LIKE 'wsrep_cluster_size'\" | grep -w 3"
    reader.machines[name].run(f"until {size}; do sleep 1; done")


def test_three_servers_of_which_one_dies(reader: Reader) -> None:
    reader.submit("server-2", 4, seconds=2)
    reader.machines["server-1"].off()
    reader.until(lambda: reader.results("server-3"), "all jobs have completed")
    assert len(reader.results("server-3") or ()) == 5, "and the first one, of the page"
    assert reader.till("server-3") in reader.every[1:]


@pytest.mark.long
def test_to_the_end(reader: Reader) -> None:
    """A fourth joins, the file is changed, each of three dies and comes back, one is taken out of service, all are renewed."""
    before = reader.nodes("server-2")
    join(reader)
    reader.until(lambda: "server-4" in reader.nodes("server-3"), "the fourth is known to the others")
    assert {name: nodes for name, nodes in reader.nodes("server-3").items() if name != "server-4"} == before

    reader.follow("Change the file")
    reader.until(lambda: reader.serving("server-1", file=3) == reader.every, "all have the new file")
    wanted = {*((name, 24) for name in reader.every[:3]), ("server-4", 32)}
    reader.until(lambda: reader.slots("server-1") == wanted, "all workers are new")

    for name, other in (("server-1", "server-2"), ("server-2", "server-3"), ("server-3", "server-1")):
        dies_and_returns(reader, name, other)

    before = reader.nodes("server-1")
    reader.follow("Take a server out of service")
    reader.until(lambda: reader.serving("server-1", file=3) == reader.every, "it is back in service")
    assert not reader.nodes("server-1")["server-3"] & before["server-3"]
    renewing = "Bring in a new version"
    reader.sections[renewing] = re.sub(r"^(server-\d)\t.*", r"\1\t…", reader.sections[renewing], flags=re.MULTILINE)
    reader.follow(renewing)
    after = reader.nodes("server-1")
    assert all(after[name].isdisjoint(before[name]) for name in reader.every)
