"""Installs the products that tests start servers of: on Debian and Ubuntu, with apt-get, only what is missing.

Nothing is asked, and no service is set up: the packages bring programs, tests start them. Elsewhere it says what to install
by hand. A product is installed when its own module says so, wherever it came from. MySQL's driver comes with pip, which
builds it: the last two are what that needs, where it is not there yet.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

import msgspec

from callboard.testing.engines import activemq, galera, haproxy, mariadb, places, postgresql, zookeeper


class Product(msgspec.Struct, frozen=True):
    """One product: how to ask whether it is there (None, or what is missing), and the Debian packages that bring it."""

    name: str
    installed: Callable[[], str | None]
    packages: tuple[str, ...]


PRODUCTS = (
    Product("zookeeper", zookeeper.installed, zookeeper.PACKAGES),
    Product("mariadb", mariadb.installed, mariadb.PACKAGES),
    Product("galera", galera.installed, galera.PACKAGES),
    Product("haproxy", haproxy.installed, haproxy.PACKAGES),
    Product("postgresql", postgresql.installed, postgresql.PACKAGES),
    Product("activemq", activemq.installed, activemq.PACKAGES),
    Product("network namespaces", places.installed, places.PACKAGES),
    Product("tools to build mysqlclient", mariadb.driver_installable, mariadb.DRIVER_PACKAGES),
    Product("headers to build mysqlclient", mariadb.headers, mariadb.HEADERS_PACKAGES),
)


def missing() -> list[tuple[Product, str]]:
    """Return the products that are not there, each with what is missing."""
    return [(product, reason) for product in PRODUCTS if (reason := product.installed())]


def show() -> int:
    """Print a line for each product; return the exit code, 1 when one is missing."""
    for product in PRODUCTS:
        print(f"{product.name}: {product.installed() or 'installed'}")
    return 1 if missing() else 0


def install() -> int:
    """Install what is missing; return the exit code."""
    absent = missing()
    if not absent:
        print("Every server that tests need is installed.")
        return 0
    wanted = [name for product, _ in absent for name in product.packages]
    if reason := _refusal():
        print(f"{reason}; missing are the Debian packages: {' '.join(wanted)}")
        return 1
    for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *wanted]):
        done = _apt_get(command)
        if done != 0:
            print(f"apt-get {command[0]} failed with {done}: see above")
            return 1
    return show()


def _refusal() -> str | None:
    if shutil.which("apt-get") is None:
        return "This is neither Debian nor Ubuntu (there is no apt-get): install the servers by hand"
    if os.geteuid() != 0:
        return "Packages are installed by root alone: run this as root (sudo make engines)"
    return None


def _apt_get(command: list[str]) -> int:
    surroundings = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(["apt-get", *command], env=surroundings, stdin=subprocess.DEVNULL).returncode
