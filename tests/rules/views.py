"""A run as `taskflow runs show` sees it."""

from __future__ import annotations

from datetime import UTC

from taskflow.handle import Run
from taskflow.run_lookup import find_run
from taskflow.run_reasons import Moment
from taskflow.run_view import RunView
from taskflow.testing import Harness


async def view(harness: Harness, run: Run) -> RunView:
    return await find_run(harness.store, run.id, Moment(harness.clock.now_ms(), UTC))
