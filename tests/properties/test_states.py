"""What `jobs.states` promises of every job, event and time."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from callboard.jobs import model, states
from callboard.jobs.model import Job, Reason, State
from callboard.kit import clock

TIMES = st.integers(0, 1 << 52)
NODE = b"n" * 16


def jobs(*among: State) -> st.SearchStrategy[Job]:
    """Return jobs as a store may hold them in one of some states."""
    return st.builds(_job, st.sampled_from(among), st.binary(min_size=16, max_size=16), st.data())


def _job(state: State, id: bytes, data: st.DataObject) -> Job:
    finished = state in model.TERMINAL
    return Job(
        id=id,
        kind="app.work",
        state=state,
        max_attempts=data.draw(st.integers(1, model.MAX_ATTEMPTS)),
        attempts=data.draw(st.integers(0, model.MAX_ATTEMPTS)),
        deaths=data.draw(st.integers(0, model.MAX_DEATHS - 1)),
        run=data.draw(st.integers(1, 1000)),
        fence=data.draw(st.integers(1, 1 << 40)),
        backoff=data.draw(st.integers(0, 3600 * clock.SECOND)),
        run_at=data.draw(TIMES),
        node=NODE if state == State.RUNNING else None,
        cancel_requested=data.draw(st.booleans()) if state == State.RUNNING else False,
        finished_at=data.draw(TIMES) if finished else None,
        result=b"\x01" if finished else None,
        reason=Reason.FAILED if finished else None,
        progress=data.draw(st.sampled_from([None, model.Progress(1, 2, "")])),
    )


End = Callable[[Job, int], states.Ended]
UNSUCCESSFUL: list[End] = [
    states.failed,
    lambda job, now: states.failed(job, now, code=Reason.TIMEOUT, message="m" * 5000, traceback="t" * 10_000),
    states.discarded,
    lambda job, now: states.postponed(job, 17, now),
    states.stopped,
    states.released,
    states.died,
]
SUCCESS: End = lambda job, now: states.succeeded(job, b"\x05", now)  # noqa: E731
ENDS = st.sampled_from([*UNSUCCESSFUL, SUCCESS])
RUNNING = jobs(State.RUNNING)
ANY = jobs(*State)


@given(RUNNING, ENDS, TIMES)
def test_every_end_of_a_claim_gives_the_job_up(job: Job, end: End, now: int) -> None:
    after = states.settled(job, end(job, now))
    assert (after.node, after.cancel_requested) == (None, False)
    assert after.state in {State.AVAILABLE, State.RETRYABLE, *model.TERMINAL}
    assert (after.finished_at == now) if after.finished else (after.finished_at is None)
    assert (after.result is not None) == (after.state == State.COMPLETED)
    assert (after.reason is not None) == (after.state in {State.DISCARDED, State.CANCELLED})
    assert (after.fence, after.run, after.key) == (job.fence, job.run, job.key)
    assert after.progress is None or after.finished


@given(RUNNING, ENDS, TIMES)
def test_an_error_is_keyed_by_run_and_fence_and_bounded(job: Job, end: End, now: int) -> None:
    error = end(job, now).error
    if error is not None:
        assert (error.run, error.fence, error.node, error.at) == (job.run, job.fence, NODE, now)
        assert error.attempt == job.attempts + 1
        assert len(error.message) <= model.MAX_MESSAGE
        assert len(error.traceback) <= model.MAX_TRACEBACK


@given(RUNNING, st.sampled_from(UNSUCCESSFUL), TIMES)
def test_anything_but_success_after_a_wish_is_cancelled(job: Job, end: End, now: int) -> None:
    wished = msgspec.structs.replace(job, cancel_requested=True)
    after = states.settled(wished, end(job, now))
    assert (after.state, after.reason, after.finished_at) == (State.CANCELLED, Reason.CANCELLED, now)


@given(RUNNING, TIMES, st.one_of(st.none(), st.binary(max_size=5)))
def test_success_completes_after_a_wish_too(job: Job, now: int, result: bytes | None) -> None:
    ended = states.succeeded(job, result, now)
    assert ended.error is None
    for wish in (False, True):
        after = states.settled(msgspec.structs.replace(job, cancel_requested=wish), ended)
        assert (after.state, after.result, after.reason) == (State.COMPLETED, result, None)
        assert (after.attempts, after.deaths) == (job.attempts + 1, job.deaths)


@given(RUNNING, TIMES, st.sampled_from([states.failed, states.discarded]))
def test_failures_count_attempts_until_the_last(job: Job, now: int, end: End) -> None:
    job = msgspec.structs.replace(job, cancel_requested=False)
    after = states.settled(job, end(job, now))
    assert (after.attempts, after.deaths) == (job.attempts + 1, job.deaths)
    if end is states.discarded or after.attempts >= job.max_attempts:
        assert after.state == State.DISCARDED
        assert after.reason == (Reason.DISCARDED if end is states.discarded else Reason.ATTEMPTS_EXHAUSTED)
    else:
        assert after.state == State.RETRYABLE
        assert after.run_at == now + states.backoff(job, after.attempts)


@given(RUNNING, TIMES, st.integers(-5, 1 << 50))
def test_postponing_and_handing_back_count_nothing(job: Job, now: int, delay: int) -> None:
    job = msgspec.structs.replace(job, cancel_requested=False)
    later, back = states.postponed(job, delay, now), states.released(job, now)
    assert (later.error, back.error) == (None, None)
    at = now + min(max(delay, 0), states.MAX_POSTPONED)
    for ended, state, run_at in ((later, State.RETRYABLE, at), (back, State.AVAILABLE, job.run_at)):
        after = states.settled(job, ended)
        assert (after.state, after.run_at, after.attempts, after.deaths) == (state, run_at, job.attempts, job.deaths)


@given(RUNNING, TIMES)
def test_the_third_death_is_the_last(job: Job, now: int) -> None:
    job = msgspec.structs.replace(job, cancel_requested=False)
    for deaths in range(model.MAX_DEATHS):
        after = states.settled(job, states.died(msgspec.structs.replace(job, deaths=deaths), now))
        last = deaths + 1 == model.MAX_DEATHS
        assert (after.deaths, after.attempts, after.run_at) == (deaths + 1, job.attempts, job.run_at)
        assert after.state == (State.DISCARDED if last else State.AVAILABLE)
        assert after.reason == (Reason.WORKER_LOST if last else None)


@given(ANY, TIMES)
def test_a_terminal_state_changes_by_retry_alone(job: Job, now: int) -> None:
    retried = states.retried(job, now)
    if not job.finished:
        assert retried is None
        return
    assert (states.cancelled(job, now), states.promoted(job, now)) == (None, None)
    assert retried is not None
    assert (retried.state, retried.run, retried.run_at) == (State.AVAILABLE, job.run + 1, now)
    assert (retried.attempts, retried.deaths, retried.fence) == (0, 0, job.fence)
    assert (retried.result, retried.reason, retried.finished_at, retried.progress) == (None, None, None, None)
    assert (retried.key, retried.digest, retried.args, retried.node) == (job.key, job.digest, job.args, None)


@given(ANY, TIMES)
def test_cancelling_ends_what_waits_and_wishes_for_what_runs(job: Job, now: int) -> None:
    after = states.cancelled(job, now)
    if job.finished:
        assert after is None
    elif job.state == State.RUNNING:
        assert after == msgspec.structs.replace(job, cancel_requested=True)
        assert states.cancelled(after, now) == after
    else:
        assert after is not None
        assert (after.state, after.finished_at, after.reason) == (State.CANCELLED, now, Reason.CANCELLED)
        assert states.cancelled(after, now) is None


@given(ANY, TIMES)
def test_only_due_jobs_are_promoted(job: Job, now: int) -> None:
    due = job.state in {State.SCHEDULED, State.RETRYABLE} and job.run_at <= now
    after = states.promoted(job, now)
    assert after == (msgspec.structs.replace(job, state=State.AVAILABLE) if due else None)


@given(jobs(State.AVAILABLE), TIMES)
def test_a_claim_raises_the_fence(job: Job, now: int) -> None:
    after = states.claimed(job, NODE, now)
    assert (after.state, after.fence, after.node, after.started_at) == (State.RUNNING, job.fence + 1, NODE, now)
    assert (after.run, after.attempts, after.deaths, after.run_at) == (job.run, job.attempts, job.deaths, job.run_at)
    assert (after.progress, after.reason) == (None, None)


@given(ANY, TIMES)
def test_a_submitted_job_waits_for_its_time(job: Job, now: int) -> None:
    after = states.submitted(job, now)
    assert after.submitted_at == now
    assert after.run_at == max(job.run_at, now)
    assert after.state == (State.SCHEDULED if job.run_at > now else State.AVAILABLE)


@given(RUNNING, st.integers(1, model.MAX_ATTEMPTS))
def test_the_delay_between_attempts_is_bounded_and_reproducible(job: Job, attempt: int) -> None:
    delay = states.backoff(job, attempt)
    wanted = min(job.backoff * 2 ** (attempt - 1), states.MAX_BACKOFF)
    assert wanted * 0.75 - 1 <= delay <= min(wanted * 1.25 + 1, states.MAX_BACKOFF)
    assert delay == states.backoff(msgspec.structs.replace(job, fence=9, deaths=0, state=State.AVAILABLE), attempt)


def test_the_jitter_spreads_jobs() -> None:
    delays = {states.backoff(Job(id=bytes([i]) * 16, kind="a", backoff=1000 * clock.SECOND), 1) for i in range(100)}
    assert len(delays) == 100
    assert max(delays) - min(delays) > 300 * clock.SECOND
