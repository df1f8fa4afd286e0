"""Which destinations are consumed, and what they mean."""

from __future__ import annotations

import pytest

from callboard import errors
from callboard.roles.bridge import destinations
from callboard.roles.bridge.destinations import Destination


@pytest.mark.parametrize(
    "text, means",
    [
        ("callboard.main.default", Destination("callboard.main.default", "main", "default")),
        ("callboard.team.acme.mail", Destination("callboard.team.acme.mail", "team.acme", "mail")),
        ("orders", Destination("orders", "main", "default")),
        ("/queue/orders", Destination("orders", "main", "default")),
        ("SHOP.Orders=acme/mail", Destination("SHOP.Orders", "acme", "mail")),
        ("orders=main/default:shop.order", Destination("orders", "main", "default", "shop.order")),
    ],
)
def test_a_destination_says_domain_queue_and_kind(text: str, means: Destination) -> None:
    assert destinations.parsed(text) == means


@pytest.mark.parametrize(
    "text", ["", "a b", "a,b", "a.>", "a.*", "orders=main", "orders=/x", "orders=Main/x", "o=main/x:", "o=main/x:a b"]
)
def test_what_is_no_destination_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(errors.InvalidSetting, match=r"^bridge\.destinations: .*write DESTINATION=DOMAIN/QUEUE"):
        destinations.parsed(text)


def test_without_any_they_are_those_of_the_worker() -> None:
    found = destinations.chosen((), [("main", "default"), ("acme", "mail")])
    assert [each.name for each in found] == ["callboard.main.default", "callboard.acme.mail"]
    assert destinations.chosen(("x",), [("main", "default")]) == (Destination("x", "main", "default"),)


def test_a_destination_means_one_thing() -> None:
    with pytest.raises(errors.InvalidSetting, match="names x twice"):
        destinations.chosen(("x=main/a", "x=main/b"), ())
