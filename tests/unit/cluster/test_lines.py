"""Where keys stand, in all the ways in which TOML lets one write them. Any file at all is tried in `tests/properties`."""

import tomllib

import pytest

from callboard.cluster import lines

TEXT = '''\
# a comment with = and [brackets]
version = 1

[store]  # another [comment]
url = "mysql://u:p#w@h/d" # not a key = 3
text = """
[no.table]
no = "key\\""" """
raw = \'\'\'
x = 'y'\'\'\'
list = [ # of = things
  "a = b]",
  [1, 2], # ]
  { inner = 1, "in ner".deep = "}" },
]
a.b . "c d" = {e = 1979-05-27 07:32:00, f = {}, g = []}

[ servers . "one.acme" ]
worker.slots = -1.5e3
[[many]]
x = 1
[[many]]
y = 2'''


def test_every_way_of_writing_a_key():
    tomllib.loads(TEXT)
    assert {".".join(path): line for path, line in lines.of(TEXT).items()} == {
        "version": 2,
        "store": 4,
        "store.url": 5,
        "store.text": 6,
        "store.raw": 9,
        "store.list": 11,
        "store.list.inner": 14,
        "store.list.in ner": 14,
        "store.list.in ner.deep": 14,
        "store.a": 16,
        "store.a.b": 16,
        "store.a.b.c d": 16,
        "store.a.b.c d.e": 16,
        "store.a.b.c d.f": 16,
        "store.a.b.c d.g": 16,
        "servers": 18,
        "servers.one.acme": 18,
        "servers.one.acme.worker": 19,
        "servers.one.acme.worker.slots": 19,
        "many": 20,
        "many.x": 21,
        "many.y": 23,
    }


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing", "\r\n"])
def test_nothing(text):
    assert lines.of(text) == {}


def test_windows_lines():
    assert lines.of('a = 1\r\n[b]\r\nc = "x"\r\n') == {("a",): 1, ("b",): 2, ("b", "c"): 3}
