"""What `up` says of the servers that a deployment uses."""

from __future__ import annotations

import pytest

from callboard.cli import deployment


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mysql://me:secret@one,two/store?ssl_ca=/ca.pem", "mysql://me@one:3306,two:3306/store"),
        ("postgresql://me:secret@h/store", "postgresql://me@h:5432/store"),
        ("zookeeper://me:secret@h/jobs?backlog=5", "zookeeper://me@h:2181/jobs"),
        ("activemq://me:secret@h?tls=true", "activemq://me@h:61613"),
        ("sqlite:///x/callboard.db", None),
        ("memory:", None),
        ("local", None),
    ],
)
def test_servers_are_shown_without_passwords_and_what_lies_here_is_not(url, shown):
    assert deployment._shown(url) == shown
