"""The check itself: what it must find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson
import pytest

from chaos.checker import check
from chaos.evidence import Evidence
from chaos.limits import check_concurrency, check_throttle
from chaos.logs import check_logs, count_errors
from chaos.producers import Sent
from chaos.strikes import Blow
from taskflow.store.operation import DONE, FAILED, Operation
from taskflow.values.ids import run_id_for
from tests.robustness.journal import Line, StoredRun, read_line

UID = "E1"
PACED = run_id_for(UID, "chaos/paced")
SENT = Sent("chaos/paced", {"n": 1}, UID, 0.01)
GOOD = ("1 start a", "2 fail a", "3 start b", "4 start c", "5 end c", "6 seen c")


def lines(*told: str, run_id: str = PACED, step: str = "go", pid: int = 77) -> list[Line]:
    found = []
    for text in told:
        at_ns, what, token = text.split()
        found.append(read_line(f"{run_id} {step} 0 {pid} {at_ns} {what} {token}"))
    return found


def memo(token: str = "c", *, failed: Sequence[str] = (), state: str = DONE) -> Operation:
    attempts = [[1, 2, "host:1", "Unlucky", each, ""] for each in failed]
    return Operation("step", state, 0, data=orjson.dumps(token), attempts=attempts)


def stored(
    run_id: str = PACED,
    function: str = "paced",
    *,
    n: int = 1,
    status: str = "completed",
    started_ms: int = 0,
    steps: dict[str, Operation] | None = None,
    **data: object,
) -> StoredRun:
    steps = {"go": memo(failed=["a"])} if steps is None else steps
    output = {step: orjson.loads(each.data or b"null") for step, each in steps.items() if each.kind == "step"}
    event = {"uid": run_id.partition("-")[0], "ts": n, "data": {"n": n, **data}}
    fields = {
        "function": f"chaos/{function}".encode(),
        "status": status.encode(),
        "event": orjson.dumps(event),
        "output": orjson.dumps(output),
        "started": str(started_ms).encode(),
    }
    return StoredRun(run_id, fields, steps)


def good() -> Evidence:
    record = {UID: {"event": '{"ts": 1}'}}
    return Evidence(sent=[SENT], runs=[stored()], lines=lines(*GOOD), events=record)


def test_failed_and_interrupted_executions_before_the_committed_one_are_fine() -> None:
    assert check(good()) == []
    assert good().repeats == 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (replace(good(), runs=[]), "has no run of paced"),
        (replace(good(), events={}), "the store has no record of it"),
        (replace(good(), runs=[stored(), stored("E2-x")]), "event number 1 has 2 runs of paced"),
        (replace(good(), runs=[stored(), stored("E2-x", n=2)]), "which nobody has sent"),
        (replace(good(), runs=[stored(status="waiting")]), "is waiting, not completed"),
        (replace(good(), runs=[stored(status="failed")]), "is failed, not completed"),
        (replace(good(), runs=[stored(steps={})]), "has memos of [], expected ['go']"),
        (replace(good(), runs=[stored(steps={"go": memo(state=FAILED)})]), "step 'go' is failed"),
        (replace(good(), lines=lines(*GOOD, "7 start d")), "executed again by process 77"),
        (replace(good(), lines=lines(*GOOD, "7 seen b")), "handlers saw {'b'}"),
        (replace(good(), lines=lines("1 start c")), "no execution has returned it"),
        (replace(good(), runs=[stored(steps={"go": memo(failed=["a", "a"])})]), "counts attempt 'a' 2 times"),
        (replace(good(), runs=[stored(steps={"go": memo(failed=["b"])})]), "counts attempt 'b' 1 times"),
        (replace(good(), left=["claims:host:1: run r1"]), "left behind: claims"),
    ],
)
def test_violation_is_found(wrong: Evidence, told: str) -> None:
    assert [problem for problem in check(wrong) if told in problem], check(wrong)


def test_an_event_that_was_refused_may_have_a_run_and_may_have_none() -> None:
    refused = replace(SENT, uid="")
    assert check(replace(good(), sent=[refused])) == []
    assert check(replace(good(), sent=[refused], runs=[], lines=[])) == []


# Invoked functions


def report(run_id: str, child: str, n: int) -> StoredRun:
    steps = {"gather": memo(), "ask": Operation("invoke", DONE, 1, child=child), "print": memo()}
    return stored(run_id, "report", n=n, steps=steps)


def helper(run_id: str, n: int) -> StoredRun:
    return stored(run_id, "helper", n=n, steps={"help": memo()})


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ([helper("h1", 1)], "helper h1 was started, but no report waits for it"),
        ([report("r1", "h1", 1), report("r2", "h1", 2), helper("h1", 1)], "helper h1 serves 2 reports"),
    ],
)
def test_helpers_without_a_report_of_their_own_are_found(runs: list[StoredRun], told: str) -> None:
    assert [problem for problem in check(Evidence([], runs, [], {})) if told in problem]


# Debounce


def calm(*records: str, run_n: int, key: int = 0) -> Evidence:
    """Events 1, 2, ... of key 0, what their records say, and the run r1, which has the event of number `run_n`."""
    sent = [Sent("chaos/calm", {"n": n, "key": 0}, f"E{n}", 0.0) for n in range(1, len(records) + 1)]
    events = {
        f"E{n}": {"event": orjson.dumps({"ts": n}).decode(), "fn:chaos/calm": record}
        for n, record in enumerate(records, 1)
    }
    runs = [stored("r1", "calm", n=run_n, key=key, steps={"settle": memo()})]
    return Evidence(sent, runs, lines(*GOOD, run_id="r1", step="settle"), events)


def test_debounced_events_went_to_a_run_that_has_the_last_of_them() -> None:
    told = "debounced: run r1 has a later event"
    problems = check(calm(told, "r1", run_n=2))
    assert [each for each in problems if "debounced" in each] == []
    assert [each for each in check(calm("r1", told, run_n=1)) if "gathered the later" in each]
    assert [each for each in check(calm(told, "", run_n=2)) if "which is no run" in each]
    assert [each for each in check(calm("r1", run_n=1, key=3)) if "of another key" in each]


# Limits


def limited(*spans: tuple[int, int | None], blows: Sequence[Blow] = (), tenant: str = "t") -> Evidence:
    """Runs of one tenant, each with a step from when to when; None: it never ended. Process 1 has the first, and so on."""
    runs, noted = [], []
    for number, (start, end) in enumerate(spans, 1):
        run_id, token = f"r{number}", f"t{number}"
        steps = {} if end is None else {"one": memo(token)}
        runs.append(stored(run_id, "limited", n=number, tenant=tenant, steps=steps))
        told = [f"{start} start {token}"] + ([] if end is None else [f"{end} end {token}"])
        noted += lines(*told, run_id=run_id, step="one", pid=number)
    return Evidence([], runs, noted, {}, blows)


def test_two_steps_of_a_tenant_may_overlap_and_three_may_not() -> None:
    assert not list(check_concurrency(limited((1, 5), (2, 6), (5, 9))))
    assert list(check_concurrency(limited((1, 5), (2, 6), (4, 9))))


def test_a_killed_process_held_its_place_until_then() -> None:
    kill = Blow("kill", "child", 5, frozenset({1}), 5)
    assert list(check_concurrency(limited((1, None), (2, 8), (3, 9), blows=[kill])))
    assert not list(check_concurrency(limited((1, None), (2, 8), (6, 9), blows=[kill])))


def test_a_process_that_was_paused_before_may_have_lost_its_place() -> None:
    blows = [Blow("pause", "host", 2, frozenset({1}), 4), Blow("kill", "child", 9, frozenset({1}), 9)]
    assert not list(check_concurrency(limited((1, None), (5, 8), (6, 9), blows=blows)))


def test_starts_that_are_too_close_are_found() -> None:
    def starts(*times_ms: int) -> Evidence:
        runs = [stored(f"r{at_ms}", started_ms=at_ms, steps={}) for at_ms in times_ms]
        return Evidence([], runs, [], {})

    assert not list(check_throttle(starts(1_000, 1_100, 1_500, 1_599)))
    assert list(check_throttle(starts(1_000, 1_100, 1_190)))


# Logs


def test_a_traceback_is_a_problem_and_a_line_is_none() -> None:
    log = """2026-01-01 00:00:00.000 ERROR   taskflow.worker: no answer from the store at 127.0.0.1:6379
2026-01-01 00:00:01.000 ERROR   asyncio: Fatal error on transport
protocol: <Connection>
Traceback (most recent call last):
  File "client.py", line 115, in data_received
    on_reply(reply)
asyncio.exceptions.InvalidStateError: invalid state
2026-01-01 00:00:02.000 WARNING taskflow.store: the store is back
"""
    (problem,) = check_logs([("worker-7", log)])
    assert problem == "worker-7 logged a traceback: asyncio.exceptions.InvalidStateError: invalid state"
    assert count_errors([("a", log), ("b", log)]) == {
        "taskflow.worker: no answer from the store at #.#.#.#:#": 2,
        "asyncio: Fatal error on transport": 2,
    }
