"""Whether an ensemble is fit: looked at by `callboard check`, each finding in one line with its mend. Nothing is changed there:
what would write ends with a guard that cannot hold."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from collections.abc import Callable
from typing import Final

import msgspec

from callboard import errors
from callboard.ensembles import address, client, requests
from callboard.kit import urls

Finding = tuple[str, str, str]
"""Level (`fit`, `warning`, `unfit`), what was found, how it is mended."""
LEAST_VERSION: Final = (3, 6)
_FORGETFUL: Final = (((3, 6, 0), (3, 8, 4)), ((3, 9, 0), (3, 9, 2)), ((3, 9, 3), (3, 9, 4)))
"""Releases, from one and up to before another, that can lose what they have acknowledged when servers are killed while others
catch up: ZOOKEEPER-4785 (mended in 3.8.4 and 3.9.2) and 4925 (3.9.3 alone), by the project's tracker; seen on 3.8.0 here."""
_SECONDS: Final = 5.0
_HOST_SECONDS: Final = 2.0
_WORD_SECONDS: Final = 1.0
_LONG_SECONDS: Final = 15.0
"""A session that is granted so much makes a frozen server noticed late: a third of it."""
_SPARE_BYTES: Final = 200
_TRIES: Final = 3
_NEVER: Final = 2**31 - 1
"""A version that no node has."""


def check(of: address.Address) -> list[Finding]:
    """Look at the ensemble, and at each of its servers. One that cannot be used is one finding, an unfit one."""
    asked = client.Client(of)
    try:
        asked.start(_SECONDS)
        found = [("fit", f"lets {of.user or 'everybody'} in{', encrypted' if of.tls else ''}", "")]
        found += [*_servers(of), *_version(asked, of), *_session(asked)]
        found += [*_rights(asked, of.root), *_size(asked, of.root), *_open(asked, of)]
    except errors.StoreError as error:
        what, _, mend = error.message.rpartition(": ")
        return [("unfit", what or error.message, mend if what else "")]
    except (client.Interrupted, client.Refused) as error:
        return [("unfit", f"the connection breaks while it is looked at ({error})", "look at the servers' logs")]
    finally:
        asked.close()
    return found


def _servers(of: address.Address) -> list[Finding]:
    """Say of each server that the URL names whether it serves, alone."""
    if len(of.hosts) == 1:
        mend = "name all servers of the ensemble in the URL, or a proxy in front of them"
        return [("warning", "the URL has one address: when it falls away, all does", mend)]
    found: list[Finding] = []
    for host in of.hosts:
        one = client.Client(msgspec.structs.replace(of, hosts=(host,)))
        with contextlib.closing(one):
            try:
                one.start(_HOST_SECONDS)
                found.append(("fit", f"{urls.written(host)} serves", ""))
            except errors.StoreError:
                found.append(("warning", f"{urls.written(host)} does not serve", "start it: a majority must serve"))
    return found


def _version(asked: client.Client, of: address.Address) -> list[Finding]:
    """Reads of many nodes came with 3.6; the number itself is told only where `srvr` may be asked, in clear."""
    if _cut(lambda: asked.read([of.root])):
        return [("unfit", "the servers are older than 3.6", "install ZooKeeper 3.6 or later")]
    said = "" if of.tls else next(filter(None, (_word(host) for host in of.hosts)), "")
    version = re.search(r"version: (\d+)\.(\d+)\.(\d+)", said)
    found = [judged((int(version[1]), int(version[2]), int(version[3])))] if version else []
    if "Mode: standalone" in said:
        mend = "set up three: with one, its end is the end of the store"
        found.append(("warning", "the server stands alone", mend))
    return found or [("fit", "ZooKeeper 3.6 or later", "")]


def judged(number: tuple[int, int, int]) -> Finding:
    """Say whether a version will do."""
    named = "ZooKeeper " + ".".join(map(str, number))
    if number[:2] < LEAST_VERSION:
        return "unfit", named, "install 3.6 or later"
    if any(first <= number < mended for first, mended in _FORGETFUL):
        what = f"{named} can lose what it acknowledged when servers are killed while others catch up"
        return "warning", what, "install 3.8.4 or 3.9.4 or later"
    return "fit", named, ""


def _session(asked: client.Client) -> list[Finding]:
    if asked.granted_seconds <= _LONG_SECONDS:
        return []
    mend = "set a smaller tickTime or minSessionTimeout"
    return [
        ("warning", f"the servers grant sessions no less than {asked.granted_seconds:g} s: a frozen one is noticed late", mend)
    ]


def _rights(asked: client.Client, root: str) -> list[Finding]:
    """Try to make a node in ROOT, or in what there is above it, and fail afterwards."""
    place = root
    while place != "/" and asked.read([place])[0] is None:
        place = place.rpartition("/")[0] or "/"
    try:
        asked.commit([requests.create(f"{place.rstrip('/')}/callboard-check", b""), requests.check(place, _NEVER)])
    except errors.StoreRefused:
        return [("unfit", f"no right to write in {place}", f"let this user create, write, read and delete in {place}")]
    return [("fit", f"may write in {place}", "")]


def _size(asked: client.Client, root: str) -> list[Finding]:
    """Send a request of the size that the store counts on, and fail."""
    steps = [requests.check(root, _NEVER), requests.create(root, bytes(requests.MOST_BYTES - 2 * len(root) - _SPARE_BYTES))]
    if _cut(lambda: asked.commit(steps)):
        mend = "set jute.maxbuffer to 1048575 or more, on all servers"
        return [("unfit", f"the servers do not take requests of {requests.MOST_BYTES} bytes", mend)]
    return [("fit", f"takes requests of {requests.MOST_BYTES} bytes", "")]


def _cut(ask: Callable[[], object]) -> bool:
    """Whether the servers cut the connection whenever they are asked that: once, it may have been for another reason."""
    for _ in range(_TRIES):
        with contextlib.suppress(client.Interrupted):
            ask()
            return False
    return True


def _open(asked: client.Client, of: address.Address) -> list[Finding]:
    found: list[Finding] = []
    if of.user and not of.tls and not all(_near(name) for name, _ in of.hosts):
        found.append(("warning", "the login crosses the network unencrypted", "use the servers' TLS port and add tls=true"))
    if not of.user:
        mend = "log in: write USER:PASSWORD@ before the hosts, before the root is made"
        found.append(("warning", "what is made there is open to anybody who reaches the servers", mend))
    elif asked.is_open(of.root):
        mend = "set its access rule by zkCli's setAcl -R, or choose another root"
        found.append(("warning", f"{of.root} is open to anybody who reaches the servers", mend))
    return found


def _word(host: urls.Host) -> str:
    """Return the answer to ZooKeeper's word `srvr`; empty when there is none."""
    with contextlib.suppress(OSError), socket.create_connection(host, _WORD_SECONDS) as made:
        made.sendall(b"srvr")
        answer = b""
        while part := made.recv(65536):
            answer += part
        return answer.decode(errors="replace")
    return ""


def _near(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
