"""A command line is run: help, misuse, errors, and no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from callboard import errors
from callboard.cli import commands, program

ALL = [(name,) for name, *_ in commands.COMMANDS] + [(first, name) for first, *_, names in commands.GROUPS for name, *_ in names]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("CALLBOARD_URL", "CALLBOARD_KEY", "CALLBOARD_VIA", "CALLBOARD_DATA", "CALLBOARD_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def test_help_lists_every_command_and_the_exit_codes(capsys):
    assert program.run(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{name}: " in printed for name, *_ in commands.COMMANDS)
    assert "5 unavailable" in " ".join(printed.split())


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_every_command_has_help(command, capsys):
    assert program.run([*command, "--help"]) == 0
    assert f"Usage: callboard {' '.join(command)}" in capsys.readouterr().out


def test_a_commands_own_help_is_longer_than_its_line_in_the_list(capsys):
    program.run(["submit", "--help"])
    assert "the job is stored durably" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["sumbit"], "'sumbit' is not a command: did you mean submit?"),
        (["key", "make"], "'make' is not a command: did you mean one of create, list, revoke?"),
        (["submit"], "KIND requires an argument"),
        (["submit", "a.b", "--dely", "3"], "--delay"),
        (["submit", "a.b", "--delay", "soon"], "unable to convert"),
        (["submit", "a.b", "x"], "'x' is not name=value"),
        (["submit", "a.b", "--delay", "nan"], "--delay nan"),
        (["submit", "a.b", "--run-at", "tomorrow"], "is not a time"),
        (["submit", "a.b", "--run-at", "2030-01-01T00:00:00"], "has no offset"),
        (["submit", "a.b", "--within", "3"], "--wait"),
        (["submit", "a.b", "--destination", "x"], "--via"),
        (["submit", "a.b", "--via", "tcp://x"], "begins with activemq://"),
        (["submit", "a.b", "--via", "activemq://h", "--wait"], "--via cannot --wait"),
        (["submit", "a.b", "--via", "activemq://h", "--url", "http://h"], "give one of them"),
        (["jobs", "--limit", "0"], "--limit 0"),
        (["cancel"], "give its id"),
        (["pause"], "give its name"),
        (["key", "revoke"], "give its id"),
        (["jobs", "--url", "nowhere"], "not a gateway's URL"),
        (["up", "--set", "worker.cout=3"], "did you mean worker.count?"),
        (["up", "--set", "worker.count"], "is not name=value"),
        (["up", "--slots", "0"], "worker.slots"),
        (["up", "--config", "none.toml"], "none.toml"),
        (["demo", "."], "has 0 files"),
        (["job", "\udcff"], "not text in UTF-8"),
    ],
    ids=lambda given: " ".join(given).encode("ascii", "replace").decode() if isinstance(given, list) else "",
)
def test_what_is_wrong_is_said_in_one_line(tokens, said, capsys):
    assert program.run(tokens) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("callboard: ") and printed.err.count("\n") == 1
    assert said in printed.err


@pytest.mark.parametrize("command", [["jobs"], ["down"], ["submit", "demo.echo"]], ids=lambda given: given[0])
def test_where_nothing_runs_it_says_so(command, capsys, tmp_path):
    assert program.run(command) == 5
    assert f"nothing runs for {tmp_path}/.callboard" in capsys.readouterr().err


def test_what_is_said_counts_more_than_a_broker_or_gateways_in_the_environment(capsys, monkeypatch):
    monkeypatch.setenv("CALLBOARD_VIA", "tcp://broker")
    monkeypatch.setenv("CALLBOARD_URL", "nowhere")
    for flags, said in (
        ([], "begins with activemq://"),
        (["--via", "activemq:h"], "begins with activemq://"),
        (["--url", "nowhere"], "not a gateway's URL"),
        (["--url", "nowhere", "--destination", "x"], "--destination is a queue of a broker"),
    ):
        assert program.run(["submit", "a.b", *flags]) == 2
        assert said in capsys.readouterr().err
    assert program.run(["jobs"]) == 2
    assert "not a gateway's URL" in capsys.readouterr().err
    monkeypatch.delenv("CALLBOARD_URL")
    assert program.run(["jobs"]) == 5
    assert "nothing runs for" in capsys.readouterr().err


def test_a_named_place_that_is_not_there(capsys):
    assert program.run(["demo", "none"]) == 3
    assert "none is not a directory" in capsys.readouterr().err


def broken(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (errors.StateRefused("job x is completed"), 4, "callboard: job x is completed (state_refused)\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 0, ""),
        (ZeroDivisionError("by\nzero"), 1, "callboard: unexpected ZeroDivisionError: by zero: this is a fault of"),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, BaseException) else "",
)
def test_no_traceback_reaches_people(error, code, said, capsys, monkeypatch):
    monkeypatch.setattr("callboard.cli.version.version", broken(error))
    assert program.run(["version"]) == code
    assert capsys.readouterr().err.startswith(said)


def test_version(capsys):
    assert program.run(["version"]) == 0
    assert capsys.readouterr().out[0].isdigit()
    assert program.run(["version", "--json"]) == 0
    assert capsys.readouterr().out.startswith('{"version":')


def test_what_is_heavy_is_not_loaded_for_commands_that_do_not_need_it():
    loaded = "import sys, callboard.cli.submit; print(*{'litestar', 'uvicorn', 'apsw', 'rich.progress'} & sys.modules.keys())"
    ended = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == []


def test_a_reader_that_has_had_enough_is_no_error():
    piped = f"{sys.executable} -m callboard.cli --help | head -1"
    ended = subprocess.run(["sh", "-c", piped], capture_output=True, text=True, check=True)
    assert ended.stdout == "Usage: callboard COMMAND\n"
    assert ended.stderr == ""
