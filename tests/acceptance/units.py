"""What pages ask of `systemctl`, done as the unit's file says: run on a machine (see `machines`) by its root.

The account, the directory, the environment's file, the state directory, the commands, and the notice that it is ready. Nothing
is started again by itself.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

UNITS: Final = (Path("/etc/systemd/system"), Path("/lib/systemd/system"))
STATE: Final = Path("/run/units")
SECONDS: Final = 100.0
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main(verb: str, *arguments: str) -> int:
    if verb == "daemon-reload":
        return 0
    name = arguments[-1].removesuffix(".service")
    STATE.mkdir(exist_ok=True)
    unit = Unit(name)
    if verb in ("stop", "restart"):
        unit.stop()
    if verb in ("start", "restart") or (verb == "enable" and "--now" in arguments):
        unit.start()
    if verb == "reload":
        unit.reload()
    return 0


class Unit:
    def __init__(self, name: str) -> None:
        path = next(each / f"{name}.service" for each in UNITS if (each / f"{name}.service").exists())
        lines = path.read_text().replace("\\\n", " ").splitlines()
        self._given = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        self._name = name
        self._pid = STATE / f"{name}.pid"
        self._user = pwd.getpwnam(self._given.get("User", "root"))

    def start(self) -> None:
        if self._running():
            return
        if state := self._given.get("StateDirectory"):
            directory = Path("/var/lib", state)
            directory.mkdir(parents=True, exist_ok=True)
            os.chown(directory, self._user.pw_uid, self._user.pw_gid)
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notices:
            process = self._run(self._given["ExecStart"], NOTIFY_SOCKET=self._listen(notices))
            self._pid.write_text(str(process.pid))
            deadline = time.monotonic() + SECONDS
            while self._given.get("Type") == "notify" and not _ready(notices):
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"Job for {self._name}.service failed.")

    def stop(self) -> None:
        deadline = time.monotonic() + SECONDS
        if self._running():
            os.kill(int(self._pid.read_text()), signal.SIGTERM)
        while self._running():
            if time.monotonic() > deadline:
                sys.exit(f"{self._name} does not end")
            time.sleep(0.02)

    def reload(self) -> None:
        code = self._run(self._given["ExecReload"]).wait(SECONDS)
        if code:
            sys.exit(f"Job for {self._name}.service failed.")

    def _run(self, command: str, **environment: str) -> subprocess.Popen[bytes]:
        user = self._user
        with (STATE / f"{self._name}.log").open("ab") as log:
            return subprocess.Popen(
                shlex.split(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._given.get("WorkingDirectory", "/"),
                env={"PATH": PATH, "LANG": "C.UTF-8", **self._environment(), **environment},
                user=user.pw_uid,
                group=user.pw_gid,
                extra_groups=os.getgrouplist(user.pw_name, user.pw_gid),
                umask=int(self._given.get("UMask", "022"), 8),
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        file = Path(self._given.get("EnvironmentFile", "-").removeprefix("-"))
        return dict(line.split("=", 1) for line in file.read_text().splitlines()) if file.is_file() else {}

    def _listen(self, notices: socket.socket) -> str:
        path = STATE / f"{self._name}.notify"
        path.unlink(missing_ok=True)
        notices.bind(str(path))
        os.chown(path, self._user.pw_uid, self._user.pw_gid)
        notices.settimeout(0.1)
        return str(path)

    def _running(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return Path(f"/proc/{int(self._pid.read_text())}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        return False


def _ready(notices: socket.socket) -> bool:
    with contextlib.suppress(TimeoutError):
        return b"READY=1" in notices.recv(4096)
    return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
