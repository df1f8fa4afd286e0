"""What lies where in ZooKeeper. Pure.

    ROOT/head                     what this store is, and which epoch of the log is the present one
    ROOT/log/EPOCH/c-NNNNNNNNNN   one a commit: what it changed, in the order of the commits
    ROOT/jobs/BB/NAME             a job: small arguments and a small result are in it
    ROOT/parts/BB/NAME!PART       beside a job: `a` its arguments, `rFENCE` a result, `eFENCE` an attempt's error
    ROOT/documents/DOMAIN:PATH    never deleted: a removed document keeps its version
    ROOT/nodes/HEX                when a node renewed

BB is one of 64 buckets, by the last byte of the id, so that no list of names becomes long; what lies beside jobs has
buckets of its own, so that reading all jobs lists jobs only.
"""

from __future__ import annotations

import binascii
from typing import Final
from urllib import parse

from callboard.jobs.engines.memory import tables

BUCKETS: Final = tuple(f"{number:02x}" for number in range(64))
ARGS: Final = "a"
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


class Layout:
    """Paths under one root, like `/callboard`."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.head = f"{root}/head"
        self.log = f"{root}/log"
        self.jobs = f"{root}/jobs"
        self.parts = f"{root}/parts"
        self.documents = f"{root}/documents"
        self.nodes = f"{root}/nodes"

    def epoch(self, epoch: int) -> str:
        return f"{self.log}/{epoch}"

    def next_entry(self, epoch: int) -> str:
        """The name that ZooKeeper completes with the entry's number."""
        return f"{self.log}/{epoch}/c-"

    def entry(self, epoch: int, number: int) -> str:
        return f"{self.log}/{epoch}/c-{number:010d}"

    def bucket(self, bucket: str) -> str:
        return f"{self.jobs}/{bucket}"

    def job(self, key: tables.Key) -> str:
        domain, id = key
        return f"{self.jobs}/{BUCKETS[id[-1] & 63]}/{_name(id)}.{domain}"

    def part(self, key: tables.Key, part: str) -> str:
        domain, id = key
        return f"{self.parts}/{BUCKETS[id[-1] & 63]}/{_name(id)}.{domain}!{part}"

    def document(self, domain: str, path: str) -> str:
        return f"{self.documents}/{domain}:{parse.quote(path, safe='')}"

    def node(self, node: bytes) -> str:
        return f"{self.nodes}/{node.hex()}"

    def ground(self, epoch: int) -> list[str]:
        """The nodes that a new store begins with, the outer ones first; without the root and the head."""
        buckets = [f"{above}/{bucket}" for above in (self.jobs, self.parts) for bucket in BUCKETS]
        return [self.log, self.epoch(epoch), self.jobs, self.parts, self.documents, self.nodes, *buckets]

    def above(self) -> list[str]:
        """The root and what is above it, the outer ones first."""
        parts = self.root.strip("/").split("/")
        return ["/" + "/".join(parts[: depth + 1]) for depth in range(len(parts))]


def number(path: str) -> int:
    """Return the number that ZooKeeper gave to an entry of the log."""
    return int(path[-10:])


def result(fence: int) -> str:
    """The part that holds the result of a claim."""
    return f"r{fence}"


def error(fence: int) -> str:
    """The part that holds the error of a claim."""
    return f"e{fence}"


def _name(id: bytes) -> str:
    return binascii.b2a_base64(id, newline=False).rstrip(b"=").translate(_URL_SAFE).decode()
