"""Several beats on one clock, which a test turns."""

from __future__ import annotations

from datetime import datetime

import orjson

from taskflow.app import TaskFlow
from taskflow.beat.service import Beat
from taskflow.context import Context
from taskflow.step import Step
from taskflow.store.store import Store
from taskflow.triggers import Catchup, TriggerCron
from taskflow.values.clock import VirtualClock
from taskflow.worker.child.registration import code_base_of

START_MS = 1_893_456_000_000  # 2030-01-01 00:00 UTC
MINUTE_MS = 60_000


class SettableClock(VirtualClock):
    """The store's clock as a beat sees it, which somebody sets."""

    def set_by(self, seconds: float) -> None:
        self._now_ms += round(seconds * 1000)


class Beats:
    """Several beats on one clock, which a test turns; there is no worker, so runs stay queued."""

    def __init__(self, app: TaskFlow, store: Store, clock: VirtualClock) -> None:
        self.app = app
        self.store = store
        self.clock = clock
        self.all: list[Beat] = []

    async def start(self) -> Beat:
        beat = Beat(self.app.config, clock=self.clock)
        await beat.start()
        self.all.append(beat)
        return beat

    async def register(self) -> None:
        """What a worker does when it starts."""
        await self.store.registry.register(
            code_base_of(self.app), child_id="host:1", now_ms=self.clock.now_ms()
        )

    async def die(self, beat: Beat) -> None:
        """The beat is killed: it does not give the lead away."""
        beat.leadership.fence = None
        await beat.close()
        self.all.remove(beat)

    async def pass_seconds(self, seconds: int, *beats: Beat) -> None:
        """Let the beats have a turn each second."""
        for _ in range(seconds):
            self.clock.advance(seconds=1)
            for beat in beats:
                await beat.run_once()

    async def ticks(self, function_id: str) -> list[str]:
        """What the runs of a cron say about their ticks (HH:MM:SS), oldest first."""
        rows = await self.store.history.recent_runs(function_id, limit=1_000)
        runs = await self.store.history.many([run_id for run_id, _ in rows])
        assert {fields["cause"] for fields in runs} <= {b"cron"}
        times = [orjson.loads(fields["event"])["data"]["scheduled_at"] for fields in runs]
        return sorted(datetime.fromisoformat(time).strftime("%H:%M:%S") for time in times)


def every_minute(app: TaskFlow, *, catchup: Catchup = "latest") -> str:
    @app.function(trigger=TriggerCron("* * * * *", catchup=catchup))
    async def minutely(ctx: Context[Step]) -> None: ...

    return minutely.id
