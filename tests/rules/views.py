"""A run as `taskflow runs show` sees it."""

from __future__ import annotations

from datetime import UTC

from taskflow.run import Run, RunView
from taskflow.runs.lookup import find_run
from taskflow.runs.reasons import Moment
from taskflow.testing import Harness


async def view(harness: Harness, run: Run) -> RunView:
    return await find_run(harness.store, run.id, Moment(harness.clock.now_ms(), UTC))
