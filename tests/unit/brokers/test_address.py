"""URLs of message brokers, taken apart."""

from __future__ import annotations

import pytest

from callboard import brokers, errors
from callboard.brokers import address


def test_all_parts():
    found = address.parsed("activemq://u%40x:p%3A%2Fw@one:61614,two,[::1]:3308/?tls=true&ca=/etc/ca.pem&cert=/c&key=/k")
    assert found == address.Address(
        hosts=(("one", 61614), ("two", 61613), ("::1", 3308)),
        user="u@x",
        password="p:/w",
        tls=True,
        ca="/etc/ca.pem",
        cert="/c",
        key="/k",
    )


def test_without_a_user_nobody_logs_in():
    assert address.parsed("activemq://h?tls=false") == address.Address(hosts=(("h", 61613),))


def test_it_is_shown_without_the_password():
    found = address.parsed("activemq://u%2F:secret@one,[::1]?tls=true&ca=x")
    assert found.shown == "activemq://u%2F@one:61613,[::1]:61613"
    assert "secret" not in repr(found) + str(found)


def test_its_scheme_tells():
    assert brokers.named("activemq://h") and not brokers.named("mysql://activemq://h")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("activemq:h", "begins with activemq://"),
        ("stomp://u:secret@h", "begins with activemq://"),
        ("activemq://", "host is missing"),
        ("activemq://u:secret@h,", "host is missing"),
        ("activemq://u@h", "a user and a password"),
        ("activemq://:secret@h", "a user and a password"),
        ("activemq://u:secr%0Aet@h", "no line ends"),
        ("activemq://u:secr/et@h", "written %2F"),
        ("activemq://u:secr#et@h", "written %2F"),
        ("activemq://u:secr@et@h", "written %2F"),
        ("activemq://u:secret@h/queue", "nothing follows the hosts"),
        ("activemq://u:secret@h:x", "port after 'h'"),
        ("activemq://u:secret@h:0", "port after 'h'"),
        ("activemq://u:secret@[::1]x", "port after '::1'"),
        ("activemq://u:secret@h?prefetch=3", "no option 'prefetch': there are tls"),
        ("activemq://u:secret@h?tls=yes", "tls is true or false"),
        ("activemq://u:secret@h?ca=", "'ca' has no value"),
        ("activemq://u:secret@h?ca=x", "with tls=true only"),
        ("activemq://u:secret@h?tls=true&key=x", "a key needs its cert"),
    ],
)
def test_a_url_that_is_wrong_is_one_line_without_the_password(url, why):
    with pytest.raises(errors.InvalidSetting) as raised:
        address.parsed(url)
    assert why in raised.value.message
    assert "secr" not in raised.value.message and "\n" not in raised.value.message
