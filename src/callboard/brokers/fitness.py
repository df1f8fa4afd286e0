"""Whether a broker is fit for a bridge: looked at by `callboard check`, each finding in one line with its mend."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

import msgspec

from callboard import errors
from callboard.brokers import address as addresses
from callboard.brokers import link
from callboard.kit import urls

Finding = tuple[str, str, str]
"""Level (`fit`, `warning`, `unfit`), what was found, how it is mended."""
HOST_SECONDS: Final = 5.0
"""How long one host may take to let us in."""


async def check(address: addresses.Address) -> list[Finding]:
    """Connect to each host of a broker and leave again. Hosts beside the one that serves may be stand-ins that do not."""
    found: list[Finding] = []
    failed: list[errors.BrokerError] = []
    for host in address.hosts:
        one = link.Link(msgspec.structs.replace(address, hosts=(host,)), link.NOBODY)
        try:
            await one.open(HOST_SECONDS)
        except errors.BrokerError as error:
            failed.append(error)
            continue
        found += _found(address, host, one.greeting)
        await one.close()
    serves = bool(found)
    found += [_failure(each, serves=serves) for each in failed]
    return found


def _found(address: addresses.Address, host: urls.Host, greeting: Mapping[str, str]) -> list[Finding]:
    where, server = urls.written(host), greeting.get("server", "")
    product, _, version = server.partition("/")
    found: list[Finding] = [("fit", f"{where} serves and lets {address.user or 'everybody'} in", "")]
    if product == "ActiveMQ":
        found.append(("fit", f"ActiveMQ {version}", ""))
    else:
        mend = "a bridge is made for ActiveMQ Classic: another broker may send more messages than there are free slots"
        found.append(("warning", f"{where} calls itself {server or 'nothing'}", mend))
    if greeting.get("heart-beat", "0,0").startswith("0"):
        found.append(
            ("warning", f"{where} sends no heartbeats: it is not noticed when it freezes", "allow them in its connector")
        )
    if address.tls:
        found.append(("fit", "encrypted", ""))
    elif address.user and not _near(host[0]):
        found.append(("warning", "the password crosses the network unencrypted", "use the broker's TLS port and add ?tls=true"))
    return found


def _failure(error: errors.BrokerError, *, serves: bool) -> Finding:
    if serves and error.retryable:
        return "warning", error.message, "nothing, if it is a stand-in that serves only when the other one does not"
    what, _, mend = error.message.rpartition(": ")
    return "unfit", what or error.message, mend if what else ""


def _near(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
