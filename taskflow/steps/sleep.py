"""`step.sleep` and `step.sleep_until`: wait for a time. Rule S3.2."""

from __future__ import annotations

from collections.abc import Callable

from taskflow.steps.host import StepHost
from taskflow.steps.settle import settle
from taskflow.store.operation import SLEEP, WAIT, Operation
from taskflow.types import Duration, When
from taskflow.values.durations import parse_duration_ms, parse_when_ms


async def sleep(host: StepHost, step_id: str, duration: Duration) -> None:
    delay_ms = parse_duration_ms(duration, what=f"step.sleep({step_id!r})")
    await sleep_to(host, step_id, lambda now_ms: now_ms + delay_ms)


async def sleep_until(host: StepHost, step_id: str, when: When) -> None:
    what = f"step.sleep_until({step_id!r})"
    await sleep_to(host, step_id, lambda now_ms: parse_when_ms(when, now_ms=now_ms, what=what))


async def sleep_to(host: StepHost, step_id: str, due: Callable[[int], int]) -> None:
    call = await host.begin(step_id, SLEEP)
    now_ms = host.now_ms()
    due_ms = due(now_ms) if call.known is None else now_ms
    op = Operation(SLEEP, WAIT, call.index, started=now_ms, due=due_ms)
    if call.known is None and due_ms <= now_ms:  # in the past: store a memo, and go on
        await host.keep(call, op)
    else:
        await settle(host, call, op)
