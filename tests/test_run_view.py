"""A run as people and programs see it, and why it waits. Rules S10.2, S10.5."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import orjson
import pytest

from taskflow.run import RunView
from taskflow.runs.reasons import ChildRun, Moment, Surroundings
from taskflow.runs.view import run_view
from taskflow.store.operation import Operation

NOON_MS = 1_893_499_200_000  # 2030-01-01 12:00 UTC
MOMENT = Moment(NOON_MS, UTC)
ALIVE = {"host-1": NOON_MS - 1_000}
S = 1_000
MIN = 60 * S


def view(
    status: str, *ops: tuple[str, Operation], around: Surroundings | None = None, **fields: Any
) -> RunView:
    """The view of a run of shop/f; `fields` add to its hash or replace parts of it."""
    stored = {
        "function": "shop/f", "queue": "default", "status": status, "cause": "event", "version": "", "created": NOON_MS - MIN,
        "score": NOON_MS - MIN, "event": {"uid": "E", "id": "E", "name": "shop/go", "data": {"n": 1}, "ts": NOON_MS - MIN},
    } | fields  # fmt: skip
    hashed = {name: packed(value) for name, value in stored.items()}
    steps = {key: op.pack() for key, op in ops}
    return run_view(
        "RUN", hashed, steps, moment=MOMENT, around=around or Surroundings(retries=4, workers=ALIVE)
    )


def packed(value: Any) -> bytes:
    return orjson.dumps(value) if isinstance(value, dict) else str(value).encode()


def error(message: str, name: str = "ValueError") -> dict[str, str]:
    return {"name": name, "message": message, "stack": f"Traceback ...\n{name}: {message}\n"}


def failed_attempt(at_ms: int) -> list[Any]:
    return [at_ms, at_ms + 10, "host-1:1", "ValueError", "no", "stack"]


# --- why a run does not execute ---


def test_scheduled_run_says_when_it_starts() -> None:
    run = view("scheduled", score=NOON_MS + 3_200)
    assert run.why == "scheduled for 12:00:03 (in 3.2 s)"
    assert run.due_ms == NOON_MS + 3_200


def test_time_of_another_day_is_told_with_its_date() -> None:
    assert view("scheduled", score=NOON_MS + 24 * 60 * MIN).why == "scheduled for 2030-01-02 12:00 (in 1 d)"


def test_queued_run_counts_the_runs_ahead() -> None:
    assert (
        view("queued", around=Surroundings(retries=4, ahead=12, workers=ALIVE)).why
        == "queued: 12 runs of shop/f are ahead"
    )
    assert (
        view("queued", around=Surroundings(retries=4, ahead=1, workers=ALIVE)).why
        == "queued: 1 run of shop/f is ahead"
    )


def test_queued_run_without_any_live_worker_says_so() -> None:
    run = view("queued", queue="video", around=Surroundings(retries=4, ahead=3))
    assert run.why == 'queued: no worker serves queue "video" (none gives a sign of life)'


def test_run_that_is_next_says_how_long_it_has_been_so() -> None:
    run = view("queued", queue="video", around=Surroundings(retries=4, ahead=0, workers=ALIVE))
    assert run.why == 'queued: next of shop/f for 1 min; workers are busy, or none serves queue "video"'
    served = view(
        "queued", queue="video", around=Surroundings(retries=4, ahead=0, workers=ALIVE, is_served=True)
    )
    assert served.why == "queued: next of shop/f for 1 min; workers are busy"
    left = view(
        "queued", queue="video", around=Surroundings(retries=4, ahead=3, workers=ALIVE, is_served=False)
    )
    assert left.why == 'queued: no worker serves queue "video"'
    fresh = view("queued", score=NOON_MS - S, around=Surroundings(retries=4, ahead=0, workers=ALIVE))
    assert fresh.why == "queued: next of shop/f"


def test_run_that_was_just_woken_is_not_said_to_be_ready_since_its_start() -> None:
    slept = Operation("sleep", "done", 0, started=NOON_MS - MIN, ended=NOON_MS - 100, data="null")
    assert (
        view("queued", ("nap", slept), around=Surroundings(retries=4, ahead=0, workers=ALIVE)).why
        == "queued: next of shop/f"
    )


def test_run_between_two_attempts_says_which_when_and_why() -> None:
    run = view("waiting", due=NOON_MS + 9 * S, attempt=1, last_error=error("no stock"))
    assert run.why == "retry 1 of 4 in 9 s (ValueError: no stock)"
    assert run.due_ms == NOON_MS + 9 * S
    unregistered = view("waiting", due=NOON_MS, attempt=2, last_error=error("no"), around=Surroundings())
    assert unregistered.why == "retry 2 now (ValueError: no)"


def test_running_run_says_where() -> None:
    run = view("running", by="host-1:2", started=NOON_MS - S)
    assert run.why == "running on host-1:2"
    assert run.worker == "host-1:2"


def test_running_run_says_that_its_worker_is_silent() -> None:
    run = view("running", by="host-1:2", around=Surroundings(workers={"host-1": NOON_MS - 8 * S}))
    assert run.why == "running on host-1:2, which is silent for 8 s"


def test_running_run_that_is_to_be_cancelled_says_so() -> None:
    run = view("running", by="host-1:2", cancel=error("not wanted", "Cancelled"))
    assert run.why == "running on host-1:2, cancelled once its step ends: not wanted"


def test_cancelled_failed_and_completed_runs_say_how_they_ended() -> None:
    cancelled = view("cancelled", started=NOON_MS - S, ended=NOON_MS, error=error("by hand", "Cancelled"))
    assert cancelled.why == "cancelled: by hand"
    failed = view("failed", started=NOON_MS - S, ended=NOON_MS, error=error("boom\non two lines"))
    assert failed.why == "ValueError: boom on two lines"
    assert failed.error is not None and failed.error.message == "boom\non two lines"
    completed = view("completed", started=NOON_MS - S, ended=NOON_MS, output={"ok": True})
    assert completed.why is None
    assert completed.output == {"ok": True}
    assert completed.duration_ms(NOON_MS + MIN) == S


def test_run_that_waits_for_several_steps_names_the_first_that_is_due() -> None:
    run = view(
        "waiting",
        ("kid", Operation("invoke", "wait", 0, started=NOON_MS, child="CHILD")),
        ("long", Operation("sleep", "wait", 1, started=NOON_MS, due=NOON_MS + 10 * MIN)),
        ("paid", Operation("event", "wait", 2, started=NOON_MS, due=NOON_MS + MIN, events=["shop/paid"])),
    )
    assert run.why == "waiting: event shop/paid until 12:01, and 2 more"


# --- why a step has no outcome ---

REASONS = [
    (Operation("sleep", "wait", 0, due=NOON_MS + 3_200), "sleeping until 12:00:03 (in 3.2 s)"),
    (Operation("sleep", "wait", 0, due=NOON_MS - 1), "sleeping until 11:59:59 (now)"),
    (
        Operation("event", "wait", 0, due=NOON_MS + MIN, events=["shop/paid"]),
        "waiting: event shop/paid until 12:01",
    ),
    (
        Operation(
            "event", "wait", 0, due=NOON_MS + MIN, events=["a", "b"], path="data.id", token="data.id=7"
        ),
        "waiting: event a or b with data.id=7 until 12:01",
    ),
    (
        Operation("event", "wait", 0, due=NOON_MS + MIN, events=["a"], condition="event.data.n > 1"),
        "waiting: event a with event.data.n > 1 until 12:01",
    ),
    (
        Operation("event", "wait", 0, due=NOON_MS, events=["a"], path="data.id", token="\x00nothing"),
        "waiting: event a with data.id equal to what this run's event lacks until 12:00",
    ),
    (Operation("invoke", "wait", 0, child="CHILD"), "waiting: run CHILD of shop/g (running)"),
    (Operation("invoke", "wait", 0, child="GONE", due=NOON_MS + MIN), "waiting: run GONE until 12:01"),
    (
        Operation("step", "retry", 0, due=NOON_MS + 37 * S, attempts=[failed_attempt(0), failed_attempt(1)]),
        "retry 2 of 4 in 37 s",
    ),
    (Operation("step", "due", 0, attempts=[failed_attempt(0)]), "its retry is due"),
    (Operation("step", "offer", 0), "queued: waits for a free slot of any worker process"),
    (Operation("step", "taken", 0, by="host-2:1"), "running on host-2:1"),
    (
        Operation("signal", "wait", 0, due=NOON_MS, signal="shop\x1fapprove-7"),
        "waiting: signal approve-7 until 12:00",
    ),
    (Operation("step", "done", 0, data="1"), None),
    (Operation("sleep", "dropped", 0), None),
]


@pytest.mark.parametrize(("op", "why"), REASONS, ids=[str(why) for _, why in REASONS])
def test_step_says_why_it_has_no_outcome(op: Operation, why: str | None) -> None:
    around = Surroundings(retries=4, children={"CHILD": ChildRun("shop/g", "running")})
    (step,) = view("waiting", ("x", op), around=around).steps.values()
    assert step.why == why


# --- steps ---


def test_steps_come_in_the_order_of_their_calls_with_attempts_and_times() -> None:
    retried = Operation(
        "step", "done", 1, data='"ok"', started=NOON_MS - 20, ended=NOON_MS, worker="host-1:1",
        attempts=[failed_attempt(NOON_MS - 100), failed_attempt(NOON_MS - 60)],
    )  # fmt: skip
    first = Operation(
        "step", "done", 0, data="41", started=NOON_MS - 200, ended=NOON_MS - 150, worker="host-1:1"
    )
    run = view("completed", ("b", retried), ("a", first))
    assert list(run.steps) == ["a", "b"]
    a, b = run.steps.values()
    assert (a.attempts, a.output, a.started_ms, a.ended_ms) == (1, 41, NOON_MS - 200, NOON_MS - 150)
    assert (b.attempts, b.output, b.started_ms, b.last_started_ms) == (3, "ok", NOON_MS - 100, NOON_MS - 20)
    assert [str(attempt.error) for attempt in b.failed_attempts] == ["ValueError: no"] * 2


def test_failed_step_counts_its_last_attempt_once() -> None:
    op = Operation(
        "step", "failed", 0, error=error("no"), started=NOON_MS - 50, ended=NOON_MS - 40,
        attempts=[failed_attempt(NOON_MS - 100), failed_attempt(NOON_MS - 50)],
    )  # fmt: skip
    (step,) = view("failed", ("x", op)).steps.values()
    assert step.attempts == 2
    assert step.error is not None and step.error.name == "ValueError"


def test_crash_log_is_told_crash_by_crash() -> None:
    log = "killed by signal 9 (SIGKILL; out of memory?); exit code 3; its host gave no heartbeat for 11 s"
    assert view("queued", crash_log=log, crashes=3).crashes == (
        "killed by signal 9 (SIGKILL; out of memory?)", "exit code 3", "its host gave no heartbeat for 11 s",
    )  # fmt: skip


def test_parent_of_an_invoked_run_is_told_with_its_step() -> None:
    run = view("running", by="host-1:1", cause="invoke", parent="PARENT\x1ftotal")
    assert (run.parent, run.parent_step) == ("PARENT", "total")


def test_json_of_a_run_is_stable() -> None:
    run = view(
        "waiting", ("nap", Operation("sleep", "wait", 0, started=NOON_MS - S, due=NOON_MS + S)), started=NOON_MS - S,
        by="host-1:1",
    )  # fmt: skip
    assert run.to_json(NOON_MS) == {
        "run_id": "RUN", "function": "shop/f", "status": "waiting", "why": "sleeping until 12:00:01 (in 1 s)",
        "queue": "default", "cause": "event", "version": "", "created_ms": NOON_MS - MIN, "started_ms": NOON_MS - S,
        "ended_ms": None, "duration_ms": S, "due_ms": None, "attempt": 0, "worker": "host-1:1", "error": None,
        "event": {"uid": "E", "id": "E", "name": "shop/go", "data": {"n": 1}, "ts": NOON_MS - MIN},
        "batched": 1, "rerun_of": None, "rerun_by": None, "replay_id": None, "parent": None, "parent_step": None,
        "crashes": [], "empty_keys": [], "progress": None, "output": None, "last_error": None, "failed_attempts": [],
        "steps": [{
            "key": "nap", "kind": "sleep", "state": "wait", "why": "sleeping until 12:00:01 (in 1 s)",
            "started_ms": NOON_MS - S, "ended_ms": None, "due_ms": NOON_MS + S, "attempts": 0, "failed_attempts": [],
            "worker": None, "child": None, "is_kept": False, "input": None, "output": None, "error": None,
        }],
    }  # fmt: skip
