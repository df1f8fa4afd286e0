"""The one instance of a service of which every node's instance serves, with the verbs of `roles.offices`: no office is needed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from callboard import errors
from callboard.app import services
from callboard.roles.service import instance as instances

log = structlog.get_logger()


class Everywhere:
    """The one instance of a service of which every instance serves."""

    def __init__(self, declared: services.Declared, threads: ThreadPoolExecutor) -> None:
        self._declared = declared
        self._threads = threads
        self._instance: instances.Instance | None = None

    @property
    def active(self) -> bool:
        return self._instance is not None and not self._instance.closing

    @property
    def works(self) -> Sequence[instances.Instance]:
        return () if self._instance is None else (self._instance,)

    def told(self) -> Any:
        return self.active

    def admit(self, domain: str, epoch: int) -> int:
        """Everything, under no epoch: the same at accept and before the reply."""
        return 0

    def work(self, domain: str) -> instances.Instance:
        if self._instance is None:
            raise errors.NotActive(f"{self._declared.label} does not serve at this node: look it up again", ran="no")
        return self._instance

    async def start(self) -> None:
        """Raises StartupError: a node without its service is of no use to anybody."""
        try:
            made = instances.Instance(self._declared, self._threads)
            await made.start()
        except Exception as error:
            label, said = self._declared.label, " ".join(str(error).split())
            log.error("the service's start() raised", service=label, exc_info=True)
            raise errors.StartupError(
                f"service {label} cannot start: {type(error).__name__}: {said}: mend its start(), or what that needs"
            ) from None
        self._instance = made

    async def end(self, grace_seconds: float) -> None:
        if self._instance is not None and not self._instance.closing:
            await self._instance.close(grace_seconds)
