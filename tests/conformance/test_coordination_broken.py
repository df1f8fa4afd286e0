"""The suite notices what is broken on purpose, by the promise that is broken."""

from __future__ import annotations

import asyncio

import pytest

from callboard.testing import broken_coordination as broken
from callboard.testing.conformance import coordination
from callboard.testing.conformance.coordination import ends, guards, offices, watching
from tests.conformance import test_coordination_engines as engines

on_virtual_time = engines.TestMemoryOnVirtualTime().keep
CAUGHT_BY = {
    broken.SplitApply: guards.guards_tell_which_one_failed_and_nothing_is_applied,
    broken.BlindCheck: guards.an_old_number_is_refused_when_the_path_is_taken_anew,
    broken.BlindReplace: guards.only_one_of_two_that_compare_and_set_succeeds,
    broken.EverLasting: guards.an_entry_says_what_was_written_and_whose_it_is,
    broken.Fleeting: guards.numbers_grow_over_closing_and_reopening,
    broken.EdgeWatch: watching.watches_go_on_after_reconnection,
    broken.DeafWatch: watching.a_change_is_told,
    broken.SilentLoss: ends.a_session_that_is_cut_off_expires,
    broken.AskedTime: ends.it_says_what_was_granted,
    broken.Unbounded: guards.what_is_out_of_the_grammar_or_too_large_is_not_sent,
    broken.NoMark: offices.nothing_is_taken_while_a_mark_stands,
    broken.EagerEnd: ends.ending_another_session_takes_its_entries_at_once,
    broken.StuckNumber: guards.numbers_only_grow,
    broken.ForgottenNumber: guards.numbers_grow_over_closing_and_reopening,
    broken.TwoOfAName: ends.a_name_is_held_once,
    broken.Immortal: ends.a_session_that_is_cut_off_expires,
    broken.Orphans: ends.a_session_takes_its_entries_with_it,
}


@pytest.mark.parametrize("kind", broken.ALL, ids=lambda kind: kind.__name__)
def test_each_is_caught_by_the_promise_that_it_breaks(kind):
    with pytest.raises(Exception):  # noqa: B017  # However it shows.
        on_virtual_time(CAUGHT_BY[kind], broken.bench(kind))


@pytest.mark.parametrize("promise", sorted(set(CAUGHT_BY.values()), key=lambda each: each.name), ids=lambda each: each.name)
def test_a_sound_engine_that_is_wrapped_is_not(promise):
    on_virtual_time(promise, broken.bench(broken.Wrapper))


def test_each_has_a_promise():
    assert set(CAUGHT_BY) == set(broken.ALL)


def test_the_whole_suite_finds_it_too():
    (name,) = asyncio.run(coordination.broken(lambda: broken.bench(broken.DeafWatch), first=True))
    assert name in {promise.name for promise in coordination.ALL}
