"""Tests of your functions on the real engine, with a clock that you turn.

from taskflow.testing import Harness

async def test_reminder_goes_out_after_30_days() -> None:
    async with Harness(app) as harness:
        run = await harness.start(remind)
        await harness.advance(days=30)
        assert await run.aresult() == "reminded"
"""

from taskflow.clock import VirtualClock
from taskflow.testing.harness import Harness
from taskflow.testing.views import RunView, StepView

__all__ = ["Harness", "RunView", "StepView", "VirtualClock"]
