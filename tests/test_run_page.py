"""The page of `taskflow runs show`, word for word."""

from __future__ import annotations

import io
from datetime import UTC
from typing import Any

import orjson

from taskflow.runs.reasons import Moment, Surroundings
from taskflow.runs.view import run_view
from taskflow.store.operation import Operation
from taskflow.terminal.run_page import run_page
from taskflow.terminal.screen import Screen

NOON_MS = 1_893_499_200_000  # 2030-01-01 12:00 UTC
T0 = NOON_MS - 10_000  # when the run started
BOOM = {
    "name": "ValueError",
    "message": "card declined",
    "stack": "Traceback (most recent call last):\n"
    '  File "/venv/taskflow/engine/tools.py", line 1, in execute\n'
    "    result = await call_step_function(\n"
    "             ^^^^^^^^^^^^^^^^^^^^^^^^^\n"
    '  File "/shop/pay.py", line 7, in charge\n'
    '    raise ValueError("card declined")\n'
    "ValueError: card declined\n",
}


def page(status: str, steps: dict[str, Operation], *, width: int = 80, **fields: Any) -> str:
    stored = {
        "function": "shop/fulfil", "queue": "default", "status": status, "cause": "event", "version": "", "created": T0 - 12,
        "score": T0, "started": T0, "event": {"uid": "E", "id": "E", "name": "shop/order", "data": {"id": 7}, "ts": T0},
    } | fields  # fmt: skip
    packed = {
        k: orjson.dumps(v) if isinstance(v, (dict, list)) else str(v).encode() for k, v in stored.items()
    }
    around = Surroundings(retries=4, workers={"host-1": NOON_MS})
    packed_steps = {key: op.pack() for key, op in steps.items()}
    run = run_view("01RUN-abc123", packed, packed_steps, moment=Moment(NOON_MS, UTC), around=around)
    stream = io.StringIO()
    Screen(stream).print(run_page(run, now_ms=NOON_MS, width=width, zone=UTC))
    return stream.getvalue()


def attempt(at_ms: int, ms: int, message: str = "card declined") -> list[Any]:
    return [at_ms, at_ms + ms, "host-1:1", "ValueError", message, BOOM["stack"]]


def step(index: int, begin_ms: int, end_ms: int, **more: Any) -> Operation:
    return Operation(
        "step", "done", index, data="1", started=T0 + begin_ms, ended=T0 + end_ms, worker="host-1:1", **more
    )


def test_page_of_a_run_that_waits_for_a_retry_and_an_event() -> None:
    steps = {
        "reserve": step(0, 0, 1_500),
        "price": step(1, 0, 500),
        "cool off": Operation("sleep", "done", 2, data="null", started=T0 + 1_500, ended=T0 + 4_000),
        "charge": Operation(
            "step",
            "retry",
            3,
            due=NOON_MS + 37_000,
            attempts=[attempt(T0 + 4_000, 500), attempt(T0 + 6_000, 250)],
        ),
        "paid": Operation("event", "wait", 4, started=T0 + 4_000, due=NOON_MS + 60_000, events=["shop/paid"]),
    }
    assert (
        page("waiting", steps)
        == """\
○ shop/fulfil  ·  waiting
  retry 2 of 4 in 37 s, and 1 more

  run      01RUN-abc123
  event    shop/order {"id":7}
  created  2030-01-01 11:59:49 (10 s ago)

    step                                                    start    took  tries
  ✓ reserve   step   █████▌                                  +0 s   1.5 s
  ✓ price     step   ██                                      +0 s  500 ms
  ✓ cool off  sleep       ─────────╴                       +1.5 s   2.5 s
  ↻ charge    step                 ██─────▐▌─────────────    +4 s     6 s  2
      retry 2 of 4 in 37 s
      attempts 1-2  ValueError: card declined
  ○ paid      event                ──────────────────────    +4 s     6 s
      waiting: event shop/paid until 12:01
"""
    )


def test_page_of_a_failed_run_ends_with_the_stack_of_the_users_own_code() -> None:
    op = Operation(
        "step", "failed", 0, error=BOOM, started=T0 + 2_000, ended=T0 + 2_500,
        attempts=[attempt(T0, 500, "busy"), attempt(T0 + 2_000, 500)],
    )  # fmt: skip
    assert (
        page(
            "failed",
            {"charge": op},
            error=BOOM,
            ended=T0 + 4_000,
            version="1.2",
            queue="pay",
            created=T0 - 3_000,
        )
        == """\
✗ shop/fulfil  ·  failed in 4 s
  ValueError: card declined

  run      01RUN-abc123
  event    shop/order {"id":7}
  created  2030-01-01 11:59:47 (13 s ago)
  started  3 s later
  queue    pay
  version  1.2

    step                                                    start   took  tries
  ✗ charge  step  █████───────────────█████                  +0 s  2.5 s  2
      attempt 1  ValueError: busy
      attempt 2  ValueError: card declined

  error
    Traceback (most recent call last):
      File "/shop/pay.py", line 7, in charge
        raise ValueError("card declined")
    ValueError: card declined
"""
    )


def test_page_of_a_running_run_shows_what_executes_and_how_its_workers_died() -> None:
    steps = {"a": step(0, 0, 4_000), "loser": Operation("sleep", "dropped", 1, started=T0)}
    log = "killed by signal 9 (SIGKILL; out of memory?); exit code 3"
    assert (
        page("running", steps, by="host-1:1", attempt=1, last_error=BOOM, crash_log=log)
        == """\
● shop/fulfil  ·  running
  running on host-1:1

  run      01RUN-abc123
  event    shop/order {"id":7}
  created  2030-01-01 11:59:49 (10 s ago)
  attempt  2

  attempt 1  ValueError: card declined

    step                                                       start      took
  ✓ a          step   ███████████████▌                          +0 s       4 s
  – loser      sleep  ╴                                         +0 s  given up
  ● executing                        ▐███████████████████████   +4 s       6 s

  crash 1  its worker process ended: killed by signal 9 (SIGKILL; out of memory?)
  crash 2  its worker process ended: exit code 3

  last error
    Traceback (most recent call last):
      File "/shop/pay.py", line 7, in charge
        raise ValueError("card declined")
    ValueError: card declined
"""
    )


def test_page_of_a_function_without_steps_shows_the_attempts_that_failed() -> None:
    """S4.7: those in a row with the same error as one line."""
    busy = orjson.dumps({"name": "ValueError", "message": "busy"}).decode()
    assert (
        page("completed", {}, ended=T0 + 2_000, attempt=3, earlier_errors=f"{busy},{busy}", last_error=BOOM)
        == """\
✓ shop/fulfil  ·  completed in 2 s

  run      01RUN-abc123
  event    shop/order {"id":7}
  created  2030-01-01 11:59:49 (10 s ago)
  attempt  4

  attempts 1-2  ValueError: busy
  attempt 3  ValueError: card declined
"""
    )


def test_page_of_a_completed_run_shows_its_output_and_who_invoked_it() -> None:
    steps = {"kid": Operation("invoke", "done", 0, started=T0, ended=T0 + 1_000, child="KID", data="1")}
    fields: dict[str, Any] = {
        "ended": T0 + 1_000,
        "output": {"total": 3},
        "cause": "invoke",
        "parent": "01PARENT\x1fsum",
    }
    assert (
        page("completed", steps, **fields)
        == """\
✓ shop/fulfil  ·  completed in 1 s

  run      01RUN-abc123
  invoke   {"id":7}
  parent   run 01PARENT, step sum
  created  2030-01-01 11:59:49 (10 s ago)

    step                                                    start  took
  ✓ kid   invoke  ────────────────────────────────────────   +0 s   1 s
      run KID

  output
    {
      "total": 3
    }
"""
    )


def test_page_of_a_queued_run_has_no_timeline() -> None:
    assert (
        page("queued", {}, started="")
        == """\
◌ shop/fulfil  ·  queued
  queued: next of shop/fulfil for 10 s; workers are busy, or none serves queue "default"

  run      01RUN-abc123
  event    shop/order {"id":7}
  created  2030-01-01 11:59:49 (10 s ago)
"""
    )


def test_narrow_screen_gets_narrow_bars() -> None:
    wide, narrow = (
        page("completed", {"a": step(0, 0, 1_000)}, ended=T0 + 2_000, width=width) for width in (120, 40)
    )
    assert "█" * 20 in wide
    assert "█" * 6 in narrow and "█" * 7 not in narrow


def test_many_like_steps_are_folded_but_those_that_tell_something_are_shown() -> None:
    steps = {f"child#{n}" if n else "child": step(n, n, n + 1) for n in range(500)}
    steps["child#300"] = Operation("step", "failed", 300, error=BOOM, started=T0, ended=T0 + 1)
    shown = page("running", steps)
    assert shown.count("child") == 5  # three, the failed one, and the line for all others
    assert "✗ child#300" in shown
    assert "… 496 more 'child': 496 done" in shown


def test_steps_of_a_loop_that_are_numbered_by_the_user_are_folded_too() -> None:
    shown = page("completed", {f"part {n} of 40": step(n, n, n + 1) for n in range(40)})
    assert "… 37 more 'part n of n': 37 done" in shown
    few = page("completed", {f"part {n}": step(n, n, n + 1) for n in range(12)})
    assert "more" not in few


def test_a_large_output_is_cut() -> None:
    shown = page("completed", {}, output=["y" * 1_000_000])
    assert len(shown) < 10_000
    assert shown.endswith("    … (1,000,009 characters in all; --all shows it)\n")
