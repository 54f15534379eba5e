"""How functions are tested: the real engine, an embedded Valkey, and a clock that the test turns.

    pytest examples/testing

The `async def` tests need pytest-asyncio (or anyio); the last one shows that plain tests need neither.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from examples.testing.trial import app, trial
from taskflow import Event
from taskflow.testing import Harness, StubCall, SyncHarness

ADA = {"id": 7, "email": "ada@example.org"}


@pytest_asyncio.fixture
async def harness(make_harness: type[Harness]) -> AsyncIterator[Harness]:
    """What all tests of the app start from."""
    async with make_harness(app) as harness:
        yield harness


@pytest.mark.asyncio
async def test_the_trial_is_charged_after_30_days(harness: Harness) -> None:
    mail = harness.stub("greet")
    harness.stub_function("pricing/quote", returns={"cents": 900})
    harness.stub("charge", calls=lambda user_id, cents: f"{cents} from {user_id}")

    run = await harness.send("user/signed.up", ADA)
    assert mail.received == [StubCall(run.id, ("ada@example.org", "welcome"), {})]
    await harness.advance(days=29)
    assert "charge" not in await harness.steps(run)

    await harness.advance(days=1)
    assert await run.aresult() == {"receipt": "900 from 7"}


@pytest.mark.asyncio
async def test_a_user_who_stops_in_time_is_not_charged(harness: Harness) -> None:
    harness.stub("greet")
    run = await harness.send("user/signed.up", ADA)
    await harness.advance(days=12)
    await harness.send("user/stopped", {"id": 8})  # somebody else
    await harness.send("user/stopped", {"id": 7})
    assert await run.aresult() == {"ended": "by the user"}


@pytest.mark.asyncio
async def test_a_bank_that_hangs_up_once_is_asked_again(harness: Harness) -> None:
    harness.stub("greet")
    harness.stub_function("pricing/quote", returns={"cents": 900})
    harness.stub("charge", raises=ConnectionError("the bank hung up"), times=1)
    harness.stub("charge", returns="receipt")

    run = await harness.run(trial, Event("user/signed.up", ADA))
    assert await run.aresult() == {"receipt": "receipt"}
    (await harness.view(run)).step("charge").assert_completed("receipt", attempts=2)


def test_a_bank_that_never_answers_ends_the_trial(make_sync_harness: type[SyncHarness]) -> None:
    with make_sync_harness(app) as harness:
        harness.stub("greet")
        harness.stub("say goodbye")
        harness.stub_function("pricing/quote", returns={"cents": 900})
        harness.stub("charge", raises=ConnectionError("the bank is away"))

        run = harness.send("user/signed.up", ADA)
        harness.advance(days=31)
        assert run.result() == {"ended": "by the bank"}
        harness.view(run).step("charge").assert_failed("the bank is away", attempts=4)
