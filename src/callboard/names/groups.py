"""Which group serves a domain: the longest match over the tree that domains make.

Naming a domain takes its whole subtree, less the branches that other groups name; `.` is the root of all. Site controllers
have no such groups: one of them serves its site, whatever the domain. Pure and frozen.
Asked by the directory for every lookup, and by services for what they accept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from callboard import errors
from callboard.kit import grammar
from callboard.names import model

DEFAULT: Final[Mapping[str, tuple[str, ...]]] = {"main": (grammar.ROOT_DOMAIN,)}
"""One group for everything."""
_SHOWN = 20


class Groups:
    """A mapping of groups to the domains that they name. Raises InvalidSetting when two groups name one domain."""

    def __init__(self, mapping: Mapping[str, Iterable[str]] = DEFAULT, *, site: str = "") -> None:
        self.site = site
        self._group_of: dict[str, str] = {}
        for group, domains in mapping.items():
            for domain in domains:
                taken = self._group_of.setdefault(domain, group)
                if taken != group:
                    raise errors.InvalidSetting(f"domain {domain} is named by groups {taken} and {group}: leave it to one")
        self._one_of = {group: domain for domain, group in self._group_of.items()}
        self.names: tuple[str, ...] = tuple(sorted(mapping))

    @classmethod
    def parse(cls, texts: Iterable[str], *, site: str = "") -> Groups:
        """Read `GROUP=DOMAIN` texts; a group may come several times, `.` is the root. Raises InvalidSetting, InvalidName."""
        mapping: dict[str, list[str]] = {}
        for text in texts:
            group, equals, domain = text.partition("=")
            if not equals:
                raise errors.InvalidSetting(f"group {text!r:.80} is not GROUP=DOMAIN: write it like 'north=acme' or 'main=.'")
            checked = domain if domain == grammar.ROOT_DOMAIN else grammar.check_domain(domain)
            mapping.setdefault(grammar.check_label(group, "group"), []).append(checked)
        return cls(mapping, site=site)

    def digest(self) -> str:
        """Return a short text that is the same for the same mapping, on every machine."""
        texts = sorted(f"{group}={domain}" for domain, group in self._group_of.items())
        return hashlib.blake2b("\n".join(texts).encode(), digest_size=16).hexdigest()

    def offices_of(self, label: str) -> tuple[str, ...]:
        """Return the groups in which a label has an office: its site for site controllers, all of these for others."""
        return (self.site,) if label == model.SITE_CONTROLLER else self.names

    def serving(self, label: str, domain: str) -> str:
        """Return the group whose office answers for a label in a domain. Raises DomainNotServed."""
        return self.site if label == model.SITE_CONTROLLER else self.of(domain)

    def domain_of(self, label: str, group: str) -> str | None:
        """Return one domain for which the office of a label in a group answers, None where there is no such office."""
        if label == model.SITE_CONTROLLER:
            return grammar.DEFAULT_DOMAIN if group == self.site else None
        return self._one_of.get(group)

    def of(self, domain: str) -> str:
        """Return the group that serves a domain. Raises DomainNotServed, which names the domain and the groups."""
        group_of = self._group_of
        branch = domain
        while True:
            group = group_of.get(branch)
            if group is not None:
                return group
            dot = branch.find(".")
            if dot < 0:
                break
            branch = branch[dot + 1 :]
        root = group_of.get(grammar.ROOT_DOMAIN)
        if root is None:
            raise self._not_served(domain)
        return root

    def _not_served(self, domain: str) -> errors.DomainNotServed:
        shown = ", ".join(self.names[:_SHOWN]) + (", …" if len(self.names) > _SHOWN else "")
        message = f"no group serves the domain {domain:.253}: the groups are {shown or 'none'}"
        return errors.DomainNotServed(message, ran="no", groups=list(self.names[:_SHOWN]))
