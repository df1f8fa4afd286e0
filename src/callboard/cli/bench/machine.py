"""On what it was measured: processors, memory, kernel, versions, and what an fsync costs on the disk in use."""

from __future__ import annotations

import os
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import apsw

from callboard.cli.bench import samples


def describe(folder: Path) -> dict[str, Any]:
    """Return facts of this machine and of the disk that `folder` lies on. Takes about a tenth of a second."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_gib": round(memory / (1 << 30), 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "callboard": metadata.version("callboard"),
        "fsync_p50_ms": round(statistics.median(fsyncs(folder)) * 1e3, 3),
    }


def fsyncs(folder: Path, count: int = 300) -> list[float]:
    """Return the seconds of single fdatasync calls after 4 KiB appends to a file in `folder`."""
    path = folder / "fsync.probe"
    file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    seconds = []
    try:
        for _ in range(count):
            os.write(file, bytes(4096))
            began = time.perf_counter()
            os.fdatasync(file)
            seconds.append(time.perf_counter() - began)
    finally:
        os.close(file)
        path.unlink()
    return seconds


def rss_mib(pid: int) -> float:
    """Return a process's resident memory in MiB."""
    return samples.status(pid)["VmRSS"] / 1024


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
