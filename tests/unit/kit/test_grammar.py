"""Labels, domains, and the tree of domains."""

from __future__ import annotations

import pytest

from callboard import errors
from callboard.kit import grammar


@pytest.mark.parametrize("value", ["a", "0", "images", "a-b", "a--b", "9lives", "a" * 63])
def test_labels(value: str) -> None:
    assert grammar.check_label(value, "queue") == value


@pytest.mark.parametrize("value", ["", "-a", "a-", "A", "a_b", "a.b", "a b", "ü", "a" * 64, "a\n", None, 7, b"a"])
def test_what_is_no_label(value: str) -> None:
    with pytest.raises(errors.InvalidName, match="queue"):
        grammar.check_label(value, "queue")


@pytest.mark.parametrize("value", ["main", "team.acme", "a.b.c.d", ".".join(["a" * 63] * 3)])
def test_domains(value: str) -> None:
    assert grammar.check_domain(value) == value


@pytest.mark.parametrize("value", ["", ".", "a.", ".a", "a..b", "a.-b", "Main", "a/b", ".".join(["a" * 63] * 4), "a.b\n", None])
def test_what_is_no_domain(value: str) -> None:
    with pytest.raises(errors.InvalidName):
        grammar.check_domain(value)


@pytest.mark.parametrize(
    ("domain", "root", "inside"),
    [
        ("acme", "acme", True),
        ("team.acme", "acme", True),
        ("a.team.acme", "acme", True),
        ("acme", "team.acme", False),
        ("xacme", "acme", False),
        ("acme.team", "acme", False),
    ],
)
def test_a_domain_is_inside_its_root(domain: str, root: str, inside: bool) -> None:
    assert grammar.inside(domain, root) is inside
