"""Documents: compare-and-set, versions that never mean two contents, guards of units."""

from __future__ import annotations

from callboard.jobs import engine as seam
from callboard.jobs import model
from callboard.testing.conformance.jobs.bench import NODE, NOW, Bench, equal, job, promise, take

BODY = bytes(range(256))


def write(path: str, expect: int, body: bytes | None, domain: str = "main") -> seam.PutDocument:
    return seam.PutDocument(domain, path, expect, body)


@promise
def a_document_is_written_and_read(ground: Bench) -> None:
    """Version 1 at first, one more each time; the body comes back byte by byte, empty and big ones too."""
    for version, body in enumerate((BODY, b"", BODY * 1000), 1):
        equal(ground.one(write("a/b", version - 1, body)), seam.Stored(version))
        equal(ground.engine.document("main", "a/b"), model.Document("main", "a/b", version, body))
    equal(ground.engine.document("main", "a"), model.Document("main", "a", 0, b""))
    equal(ground.engine.document("nowhere", "a/b"), model.Document("nowhere", "a/b", 0, b""))


@promise
def a_write_expects_a_version(ground: Bench) -> None:
    """Any other is refused with the one found, and changes nothing."""
    equal(ground.refused(write("a", 1, b"x")), seam.Refused(0, seam.Changed(0)))
    ground.one(write("a", 0, b"1"))
    ground.one(write("a", 1, b"2"))
    for expect in (0, 1, 3):
        equal(ground.refused(write("a", expect, b"x")), seam.Refused(0, seam.Changed(2)))
        equal(ground.refused(write("a", expect, None)), seam.Refused(0, seam.Changed(2)))
    equal(ground.engine.document("main", "a").body, b"2")


@promise
def versions_go_on_after_a_removal(ground: Bench) -> None:
    """Removing is a write of the next version, which is what the next one expects: not 0, which means never."""
    ground.one(write("a", 0, b"1"))
    equal(ground.one(write("a", 1, None)), seam.Stored(2))
    equal(ground.engine.document("main", "a"), model.Document("main", "a", 2, b""))
    equal(ground.engine.documents("main", ""), [])
    equal(ground.refused(write("a", 0, b"x")), seam.Refused(0, seam.Changed(2)))
    equal(ground.refused(seam.Require("main", "a", 0)), seam.Refused(0, seam.Changed(2)))
    equal(ground.unit(seam.Require("main", "a", 2), write("a", 2, b"3")), [seam.Held(), seam.Stored(3)])
    equal(ground.engine.documents("main", ""), [model.Document("main", "a", 3, b"3")])


@promise
def documents_are_listed_by_prefix(ground: Bench) -> None:
    """In the order of their paths, the prefix taken literally, letter for letter, within one domain."""
    paths = ["keys/b", "keys/a", "keys", "keys_/a", "keys%", "Keys/a", "queues/a", "keys/ü"]
    ground.unit(*(write(path, 0, path.encode()) for path in paths), write("keys/z", 0, b"z", "acme"))
    for prefix in ("", "keys/", "keys", "keys_", "keys%", "keys/a", "keys/ab"):
        wanted = sorted(path for path in paths if path.startswith(prefix))
        found = ground.engine.documents("main", prefix)
        equal(found, [model.Document("main", path, 1, path.encode()) for path in wanted])
    equal([found.path for found in ground.engine.documents("acme", "")], ["keys/z"])
    equal(ground.engine.documents("nowhere", ""), [])


@promise
def a_required_version_guards_a_unit(ground: Bench) -> None:
    """The rest is applied only while the document is at that version, as pausing a queue needs it."""
    ground.put(job())
    claim = seam.Claim(NODE, (take(),), 10, NOW)
    ground.one(write("queues/default", 0, b"paused"))
    equal(ground.refused(seam.Require("main", "queues/default", 0), claim), seam.Refused(0, seam.Changed(1)))
    equal(ground.refused(claim, seam.Require("main", "queues/default", 2)), seam.Refused(1, seam.Changed(1)))
    equal(ground.count(), {"available": 1})
    held, claimed = ground.unit(seam.Require("main", "queues/default", 1), claim)
    equal((held, len(claimed.jobs)), (seam.Held(), 1))
    equal(ground.one(seam.Require("acme", "queues/default", 0)), seam.Held())


@promise
def a_guard_sees_the_batch_before_it(ground: Bench) -> None:
    """A document written by a former unit of the same batch, or earlier in the unit, is already the one that counts."""
    results = ground.batch(
        [
            (write("a", 0, b"1"),),
            (seam.Require("main", "a", 0), seam.Put(job(), NOW)),
            (write("a", 1, b"2"), seam.Require("main", "a", 2)),
            (write("a", 2, b"3"), seam.Require("main", "a", 2)),
        ]
    )
    equal([isinstance(result, seam.Refused) for result in results], [False, True, False, True])
    equal((results[1], results[3]), (seam.Refused(0, seam.Changed(1)), seam.Refused(1, seam.Changed(3))))
    equal(ground.engine.document("main", "a"), model.Document("main", "a", 2, b"2"))


@promise
def domains_are_those_with_something_in_them(ground: Bench) -> None:
    """Jobs or documents; what was removed does not count."""
    equal(ground.engine.domains(), [])
    ground.put(job(domain="team.acme"), job(domain="team.acme"))
    ground.one(write("a", 0, b"", "main"))
    equal(sorted(ground.engine.domains()), ["main", "team.acme"])
    ground.finished(domain="acme")
    ground.one(write("a", 1, None, "main"))
    equal(sorted(ground.engine.domains()), ["acme", "team.acme"])
    ground.one(seam.Purge("acme", NOW * 2, 0, NOW * 2, 10))
    equal(ground.engine.domains(), ["team.acme"])
