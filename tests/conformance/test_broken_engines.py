"""The suite notices what is broken on purpose, and nothing else."""

from __future__ import annotations

import itertools
import pathlib

import pytest

from callboard.jobs import engine as seam
from callboard.jobs.engines import memory, sqlite
from callboard.testing import broken
from callboard.testing.conformance import jobs
from callboard.testing.conformance.jobs import bench, born, claims, documents, ends, people, puts, reads, sharing, units, upkeep

CAUGHT_BY = {
    broken.UnfencedSettle: ends.only_the_owner_settles,
    broken.SplitUnit: units.a_refused_put_leaves_nothing,
    broken.EntangledUnits: units.a_refused_unit_does_not_harm_its_neighbours,
    broken.LostCommit: sharing.what_was_acknowledged_is_there_after_reopening,
    broken.DoubleClaim: claims.limits_hold,
    broken.FrozenFence: claims.a_fence_grows_at_every_claim,
    broken.GreedyClaim: claims.what_no_take_names_is_untouched,
    broken.UnorderedTakes: claims.takes_are_served_in_their_order,
    broken.LimitlessTakes: claims.limits_hold,
    broken.ForgottenConflict: puts.another_content_under_an_id_is_a_conflict,
    broken.StaleMade: puts.an_absent_id_that_is_too_old_is_stale,
    broken.DroppedClaim: born.a_job_put_claimed_is_stored_as_given,
    broken.EagerPromotion: upkeep.due_jobs_are_promoted,
    broken.ForgottenWish: ends.a_wish_to_cancel_decides_between_outcomes,
    broken.LostErrors: ends.errors_are_appended_by_run_and_fence,
    broken.DeafRenewal: ends.a_renewal_tells_what_was_lost_and_wished,
    broken.SparedNothing: upkeep.more_than_enough_finished_jobs_are_purged,
    broken.IgnoredGuard: documents.a_required_version_guards_a_unit,
    broken.LastWriteWins: documents.a_write_expects_a_version,
    broken.SkippedJob: reads.jobs_are_listed_newest_first,
    broken.DriftingCounts: units.a_refused_unit_does_not_harm_its_neighbours,
    broken.BlindPolling: reads.ready_tells_whether_a_claim_would_get_something,
}
_numbers = itertools.count()


def new_memory() -> seam.Engine:
    return memory.open("memory:")


def opener(kind: type[broken.Wrapper], inside: bench.Open) -> bench.Open:
    store = f"store {next(_numbers)}"
    return lambda: broken.wrap(kind, inside, store)


@pytest.mark.parametrize("kind", broken.ALL)
def test_each_broken_engine_is_caught(kind: type[broken.Wrapper]) -> None:
    (name,) = jobs.broken(lambda: opener(kind, new_memory), first=True)
    assert name in {promise.name for promise in jobs.ALL}


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
@pytest.mark.parametrize(("kind", "promise"), CAUGHT_BY.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_it_is_caught_by_the_promise_that_it_breaks(
    engine: str, kind: type[broken.Wrapper], promise: bench.Promise, tmp_path: pathlib.Path
) -> None:
    def new_sqlite() -> seam.Engine:
        return sqlite.open(f"sqlite://{tmp_path}/{next(_numbers)}.db")

    with bench.Bench(opener(kind, new_memory if engine == "memory" else new_sqlite)) as ground:
        assert not promise.missing(ground)
        with pytest.raises((AssertionError, ValueError)):
            promise.run(ground)


def test_every_broken_engine_has_its_promise() -> None:
    assert set(CAUGHT_BY) == set(broken.ALL)


def test_a_sound_engine_breaks_nothing() -> None:
    assert jobs.broken(lambda: lambda: broken.Wrapper(new_memory())) == {}


def test_every_module_of_promises_is_used() -> None:
    listed = {promise.name for promise in jobs.ALL}
    assert len(listed) == len(jobs.ALL)
    assert people.a_finished_job_is_retried.name in listed


def test_promises_say_what_they_need() -> None:
    with bench.Bench(new_memory) as ground:
        missing = {promise.missing(ground) for promise in jobs.ALL}
    assert missing == {"", "durable", "shared"}
