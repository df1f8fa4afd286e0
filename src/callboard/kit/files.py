"""Files that others read while they are written: whole or not at all, and for their owner's eyes alone."""

from __future__ import annotations

import os
from pathlib import Path


def write_private(path: Path, body: bytes, *, durable: bool = False) -> None:
    """Replace a file's content, mode 0600; `durable` also waits for the disk. One writer at a time. Raises OSError."""
    made = path.with_name(f"{path.name}.new")
    made.unlink(missing_ok=True)
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(body)
        file.flush()
        if durable:
            os.fsync(descriptor)
    made.replace(path)
