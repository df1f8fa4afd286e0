"""`callboard up` and `down` as people use them: in a terminal, in the background, with an app of their own, and in error."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard.cli.demo import deployment
from callboard.kit import ports
from callboard.node import layout

CALLBOARD = (sys.executable, "-m", "callboard.cli")
SECONDS = 30

APP = """
from callboard import Callboard

app = Callboard("images")

@app.job
def area(width: int, height: int = 2) -> int:
    return width * height
"""


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path):
    """Whatever a test starts names its directory in its command line; all of it must be gone at the end."""
    yield
    assert deployment._end_leftovers(tmp_path) == []


@pytest.fixture
def port():
    return ports.free()[0]


def environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("CALLBOARD_")}


def run(*tokens, cwd):
    return subprocess.run(
        [*CALLBOARD, *map(str, tokens)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        timeout=SECONDS,
        check=False,
    )


@contextlib.contextmanager
def up(*tokens, cwd: Path) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run `up` in the foreground; give its process, and the lines it printed until it was ready."""
    command = [*CALLBOARD, "up", *map(str, tokens)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=environment()
    ) as process:
        try:
            lines = []
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                if line.startswith(("stop\t", "{")):
                    break
            yield process, lines
        finally:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=SECONDS)


def one_line(ran, code, word):
    """What failed printed one line, with its code, and nothing else."""
    assert (ran.returncode, ran.stdout) == (code, ""), ran.stderr
    assert ran.stderr.startswith("callboard: ") and ran.stderr.endswith(f"({word})\n"), ran.stderr
    assert ran.stderr.count("\n") == 1, ran.stderr


def test_a_first_start_and_its_end_by_ctrl_c(tmp_path, data, port):
    with up("--data", data, "--port", port, "--workers", 1, cwd=tmp_path) as (process, lines):
        facts = dict(line.split("\t", 1) for line in lines[1:])
        assert lines[0] == "Callboard is up."
        assert facts["listening"] == f"http://127.0.0.1:{port}"
        assert facts["data"] == str(data)
        assert "demo.inspect" in facts["serving"]
        assert facts["workers"] == "1 with 16 slots each"
        key = layout.read_local(layout.Layout(data).local).key
        assert facts["admin key"].startswith(f"{key} (shown once")
        assert facts["submit"] == f"callboard submit --data {data} demo.echo value=hello --wait"
        ran = run(*facts["submit"].split()[1:], cwd=tmp_path)
        assert (ran.returncode, ran.stdout) == (0, '"hello"\n')
        id = run("submit", "demo.sleep", "seconds=0.6", "--data", data, cwd=tmp_path).stdout.strip()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=SECONDS)
        assert process.returncode == 0
        assert said.endswith("callboard: stopped\n") and "Traceback" not in said
    one_line(run("jobs", "--data", data, cwd=tmp_path), 5, "not_running")

    with up("--data", data, "--port", port, "--workers", 1, "--json", cwd=tmp_path) as (process, lines):
        assert json.loads(lines[0])["new_key"] is None
        ended = json.loads(run("job", id, "--follow", "--json", "--data", data, cwd=tmp_path).stdout)
        assert (ended["state"], ended["attempts"]) == ("completed", 1)
        one_line(run("up", "--data", data, "--port", port + 1, cwd=tmp_path), 6, "already_running")


def test_in_the_background_with_an_app_of_ones_own(tmp_path, port):
    (tmp_path / "images.py").write_text(APP)
    (tmp_path / "callboard.toml").write_text(f"[gateway]\nport = {port}\n[worker]\ncount = 1\n")
    started = run("up", "images:app", "--detach", cwd=tmp_path)
    assert started.returncode == 0, started.stderr
    facts = dict(line.split("\t", 1) for line in started.stdout.splitlines()[1:])
    assert (facts["listening"], facts["serving"]) == (f"http://127.0.0.1:{port}", "images:app")
    assert facts["stop"].startswith("callboard down")
    ran = run("submit", "images.area", "width=21", "--wait", cwd=tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "42\n", "")
    one_line(run("submit", "images.area", "width=wide", cwd=tmp_path), 2, "invalid_arguments")
    stopped = run("down", cwd=tmp_path)
    assert (stopped.returncode, stopped.stdout) == (0, "Stopped the agent and its nodes.\n")
    one_line(run("down", cwd=tmp_path), 5, "not_running")
    assert (tmp_path / ".callboard" / "agent.log").stat().st_mode & 0o777 == 0o600


def test_a_closed_terminal_ends_it(tmp_path, data, port, eventually):
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # Whoever runs the tests may ignore it, and that is inherited.
        os.execve(sys.executable, [*CALLBOARD, "up", "--data", str(data), "--port", str(port), "--workers", "1"], environment())
    shown = b""
    while b"stop" not in shown:
        shown += os.read(terminal, 4096)
    os.close(terminal)
    os.waitpid(pid, 0)
    assert b"Callboard is up." in shown
    assert layout.Layout(data).sessions().sessions() == set()


def listening(port):
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    made.listen()
    return made


@pytest.mark.parametrize("detach", [(), ("--detach",)], ids=["foreground", "background"])
def test_a_port_in_use(tmp_path, data, port, detach):
    with listening(port):
        one_line(run("up", "--data", data, "--port", port, "--workers", 1, *detach, cwd=tmp_path), 6, "port_in_use")


def test_an_app_that_is_not_there(tmp_path, data, port):
    one_line(run("up", "nowhere:app", "--data", data, "--port", port, cwd=tmp_path), 6, "app_not_found")


def test_a_data_directory_that_is_none(tmp_path, port):
    (tmp_path / "file").touch()
    one_line(run("up", "--data", tmp_path / "file", "--port", port, cwd=tmp_path), 6, "data_unusable")
    one_line(run("up", "--data", tmp_path / "file", "--port", port, "--detach", cwd=tmp_path), 6, "data_unusable")


def test_a_database_of_somebody_else(tmp_path, data, port):
    data.mkdir()
    (data / "callboard.db").write_bytes(b"SQLite format 3\0" + bytes(4096))
    ran = run("up", "--data", data, "--port", port, cwd=tmp_path)
    assert ran.returncode == 6 and ran.stderr.count("\n") == 1
