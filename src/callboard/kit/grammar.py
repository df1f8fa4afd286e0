"""The grammar of names: labels, domains, the tree that domains make. Everything that has a name in Callboard uses these.

Jobs, services and keys check by them; nobody else writes a pattern for a label.
"""

from __future__ import annotations

import re
from typing import Final

from callboard import errors

DEFAULT_DOMAIN: Final = "main"
ROOT_DOMAIN: Final = "."
"""What all domains are inside of, as in DNS. Nothing is done in it; a key or a group may reach it."""
LABEL: Final = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_label = re.compile(LABEL)
_domain = re.compile(rf"{LABEL}(?:\.{LABEL})*")


def check_label(value: str, what: str) -> str:
    """Return a queue's, a service's or a domain part's name, or raise InvalidName."""
    if not isinstance(value, str) or not _label.fullmatch(value):
        raise errors.InvalidName(f"{what} {value!r:.80} is not a label: use 1 to 63 of a-z, 0-9 and '-', no '-' at the ends")
    return value


def check_domain(value: str) -> str:
    """Return a domain's name (labels with dots, 253 characters at most), or raise InvalidName."""
    if not isinstance(value, str) or len(value) > 253 or not _domain.fullmatch(value):
        raise errors.InvalidName(f"domain {value!r:.80} is not labels with dots: write it like 'team.acme'")
    return value


def inside(domain: str, root: str) -> bool:
    """Tell whether a domain is `root` or lies in its subtree: `team.acme` is inside `acme`."""
    return domain == root or root == ROOT_DOMAIN or domain.endswith("." + root)
