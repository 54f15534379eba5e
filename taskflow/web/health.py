"""WebHealth: answers the probes of `taskflow web`, and gives its metrics. Rules S13.1, S13.3."""

from __future__ import annotations

import asyncio
import time

from taskflow.connections import Connections
from taskflow.errors import StoreUnavailable
from taskflow.observability.families import READY
from taskflow.observability.health import Finding, Probes
from taskflow.observability.metrics import Tally
from taskflow.web.counting import Counting

TURN_S = 1.0
ASK_S = 5.0
LOOP_LIMIT_S = 10.0


class WebHealth:
    """What the probes answer. Tasks of the loop note it; another thread asks, and reads one value at a time."""

    def __init__(self) -> None:
        self.turned_s = time.monotonic()
        self.has_started = False
        self.trouble = "the store has not answered yet"
        self.counting: Counting | None = None

    async def turn(self) -> None:
        """Note each second that the loop turns."""
        while True:
            self.turned_s = time.monotonic()
            await asyncio.sleep(TURN_S)

    async def ask_store(self, link: Connections) -> None:
        """Note now and then whether the store answers."""
        while True:
            try:
                async with link.session().deadline() as store:
                    await store.client.call("PING")
            except StoreUnavailable as error:
                self.trouble = str(error)
            else:
                self.trouble, self.has_started = "", True
            await asyncio.sleep(ASK_S)

    @property
    def probes(self) -> Probes:
        return Probes(live=self.live, ready=self.ready, started=self.started, metrics=self.metrics)

    def live(self) -> Finding:
        """Whether the loop turns. No server counts."""
        age_s = time.monotonic() - self.turned_s
        return Finding(f"its event loop has stood still for {age_s:.0f} s" if age_s >= LOOP_LIMIT_S else "")

    def ready(self) -> Finding:
        """Whether the loop turns, and the store has answered."""
        live = self.live()
        return Finding(self.trouble) if live.ok else live

    def started(self) -> Finding:
        """Whether the store has answered once."""
        return Finding("" if self.has_started else self.trouble)

    def metrics(self) -> Tally:
        tally = Tally() if self.counting is None else self.counting.tally()
        tally.set(READY, self.ready().ok)
        return tally
