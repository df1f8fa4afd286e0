from __future__ import annotations

import pytest

from callboard import errors
from callboard.coordination import engines
from callboard.coordination.engines.zookeeper import engine, layout


@pytest.mark.parametrize(
    ("url", "hosts", "ground"),
    [
        ("zookeeper://one:1,two:2,three/a/b", "one:1,two:2,three:2181", ["/a", "/a/b", "/a/b/entries"]),
        ("zookeeper://10.0.0.1", "10.0.0.1:2181", ["/callboard", "/callboard/entries", "/callboard/seals"]),
        ("zookeeper://[::1]:5", "[::1]:5", ["/callboard", "/callboard/entries", "/callboard/seals"]),
    ],
)
def test_the_url_says_where(url, hosts, ground):
    made = engine.open(url)
    assert made._address.places == hosts and layout.Layout(made._address.root).ground()[:3] == ground


@pytest.mark.parametrize(
    "url", ["zookeeper:", "zookeeper://", "zookeeper://a,,b", "zookeeper://a:b", "zookeeper://a/..", "zookeeper://a//b"]
)
def test_a_url_that_says_nothing(url):
    with pytest.raises(errors.InvalidSetting, match="host1:2181"):
        engines.open(url)


async def test_a_session_has_a_name_within_the_grammar():
    with pytest.raises(errors.InvalidName):
        await engine.open("zookeeper://127.0.0.1:1").session("a/b")
