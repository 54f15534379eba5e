"""check_middleware passes a middleware that keeps the contract, and says where another one breaks it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from taskflow import Activation, Attempt, Middleware, OpenTelemetry, Outcome, Sentry
from taskflow.testing import check_middleware

Call = Callable[[], Awaitable[Outcome]]
BlockingCall = Callable[[], Outcome]


class Good(Middleware):
    async def wrap_run(self, run: Activation, call: Call) -> Outcome:
        run.state["began"] = True
        return await call()

    async def wrap_attempt(self, attempt: Attempt, call: Call) -> None:
        await call()

    def on_step_end(self, attempt: Attempt, outcome: Outcome) -> None:
        assert attempt.ended_ms is not None


class GoodInThreads(Middleware):
    def wrap_run(self, run: Activation, call: BlockingCall) -> Outcome:
        return call()

    def wrap_attempt(self, attempt: Attempt, call: BlockingCall) -> Outcome:
        return call()


class Changes(Middleware):
    async def wrap_attempt(self, attempt: Attempt, call: Call) -> Outcome:
        outcome = await call()
        return Outcome("completed", [outcome.value]) if attempt.step_id == "a" else outcome


class Hides(Middleware):
    async def wrap_attempt(self, attempt: Attempt, call: Call) -> Outcome:
        outcome = await call()
        return Outcome("completed", "always") if outcome.error is not None else outcome


class NeverCalls(Middleware):
    async def wrap_attempt(self, attempt: Attempt, call: Call) -> Outcome:
        return Outcome("completed", 4) if attempt.step_id == "c" else await call()


class Raises(Middleware):
    def on_suspend(self, run: Activation) -> None:
        raise ValueError("not in this hook")


def traces() -> Middleware:
    return OpenTelemetry(TracerProvider())


@pytest.mark.parametrize("middleware", [Middleware, Good, GoodInThreads, traces, Sentry])
async def test_a_middleware_that_keeps_the_contract_passes(middleware: Callable[[], Middleware]) -> None:
    await check_middleware(middleware)


@pytest.mark.parametrize(
    ("middleware", "told"),
    [
        (Changes, "wrap_attempt got completed (2) from inside, and gave completed ([2]): of contract/"),
        (Hides, "from inside, and gave completed ('always'): of contract/broken, the handler"),
        (NeverCalls, "wrap_attempt did not reach what is inside, 1 times: of contract/"),
        (Raises, "Raises.on_suspend raised ValueError: not in this hook"),
    ],
)
async def test_what_breaks_the_contract_is_told(middleware: Any, told: str) -> None:
    with pytest.raises(AssertionError) as failed:
        await check_middleware(middleware)
    assert told in str(failed.value)
