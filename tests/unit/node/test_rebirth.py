"""An agent that is started anew: checked before it is done, told to the one who is meant, once."""

import os
import subprocess
import sys

import msgspec
import pytest

from callboard.node import layout, rebirth

LOAD = "from callboard.node import rebirth"


def again(code):
    return rebirth.Again(command=(sys.executable, "-c", code))


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("", ""),
        ("import sys; sys.exit('first line\\ncallboard: the file is wrong (invalid_setting)')", "the file is wrong"),
        ("import sys; sys.exit('Traceback\\nModuleNotFoundError: no such thing')", "ModuleNotFoundError: no such thing"),
        ("import sys; sys.exit(9)", "the check ended with exit code 9"),
        (f"{LOAD}; assert rebirth.only_checked() and rebirth.taken().only == 'check'", ""),
        (f"{LOAD}; rebirth.taken(); assert rebirth.taken() is None and not rebirth.only_checked()", ""),
    ],
)
def test_the_command_is_asked_whether_it_would_work(code, why):
    assert rebirth.refused(again(code)) == why


def test_a_program_that_is_gone_is_named(tmp_path):
    said = rebirth.refused(rebirth.Again(command=(str(tmp_path / "python"), "up")))
    assert said == f"{tmp_path / 'python'} cannot be run: No such file or directory"


def test_a_check_that_hangs_ends(monkeypatch):
    monkeypatch.setattr(rebirth, "CHECK_SECONDS", 0.2)
    assert "did not end within 0.2 s" in rebirth.refused(again("import time; time.sleep(60)"))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ({"pid": os.getpid(), "only": "begin", "wish": 7}, True),
        ({"pid": 1, "only": "begin"}, False),
        ({"pid": os.getpid(), "only": "dance"}, False),
    ],
)
def test_who_is_not_meant_is_an_agent_like_any_other(monkeypatch, text, meant):
    monkeypatch.setenv(rebirth.VARIABLE, msgspec.json.encode(text).decode())
    found = rebirth.taken()
    assert (found is not None and found.wish == 7) is meant and rebirth.VARIABLE not in os.environ


def test_the_process_becomes_the_next_one_with_what_was_taken_out_of_its_environment():
    """In a process of its own: it is the same one before and after."""
    code = """
import os, sys
from callboard.node import rebirth
mark = rebirth.taken()
if mark is None:
    command = (sys.executable, *sys.orig_argv[1:])
    rebirth.begin(rebirth.Again(command=command, environment={"KEPT": str(os.getpid())}, before=lambda: print("left")), 3)
assert mark.wish == 3 and os.environ["KEPT"] == str(os.getpid())
print("again", flush=True)
"""
    ran = subprocess.run([sys.executable, "-u", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "left\nagain\n"


def test_the_word_of_the_agent_is_kept_up(tmp_path):
    place = layout.Layout(tmp_path)
    place.prepare()
    session = place.sessions().session(layout.AGENT)
    speaker = rebirth.Speaker(session, "1" * 32)
    speaker.say(msgspec.structs.replace(speaker.word, ready=True, why="so"))
    (found,) = place.sessions().entries(layout.WORD)
    assert msgspec.json.decode(found.body, type=rebirth.Word) == rebirth.Word(start="1" * 32, ready=True, why="so")
    session.close()
