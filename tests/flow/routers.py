"""Routers of one function, side by side, at a time that the test says: what events come to in the store, without workers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson

from taskflow.flow.options import FlowControl
from taskflow.store.routing import EventPlan, RunPlan
from taskflow.store.store import Store
from taskflow.types import FunctionId
from taskflow.values.ids import run_id_for
from tests.store.scene import NOW_MS, Scene

FN = FunctionId("shop/work")
Wire = dict[str, Any]


def wire(number: int, *, at_ms: int = 0, id: str | None = None, **data: Any) -> Wire:
    """An event that was sent at NOW_MS + at_ms."""
    uid = f"E{number:05}"
    return {
        "uid": uid, "id": id or uid, "name": "order", "data": {"number": number, **data}, "ts": NOW_MS + at_ms
    }  # fmt: skip


def run_of(event: Wire) -> str:
    """The run that the event starts, if it starts one of its own."""
    return run_id_for(event["uid"], FN)


class Routers:
    """`count` routers with a connection of their own each."""

    def __init__(self, stores: Sequence[Store], flow: FlowControl) -> None:
        self.stores = stores
        self.flow = flow
        self.start_timeout_ms = 0
        self.scene = Scene(stores[0])

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, count: int = 1, **options: Any) -> AsyncIterator[Routers]:
        """On an empty database; `options` are those of `@app.function`."""
        stores = [await Store.open(url) for _ in range(count)]
        await stores[0].client.call("FLUSHDB")
        try:
            yield cls(stores, FlowControl.of(**options))
        finally:
            await stores[0].client.call("FLUSHDB")
            for store in stores:
                await store.close()

    async def route(self, *events: Wire, at_ms: int = 0, router: int = 0) -> None:
        """Route the events in one script, at NOW_MS + at_ms."""
        self.scene.now_ms = NOW_MS + at_ms
        plans = [
            EventPlan.of(
                event["uid"],
                "" if event["id"] == event["uid"] else event["id"],
                event["name"],
                orjson.dumps(event),
                [
                    RunPlan(
                        FN,
                        "default",
                        run_id_for(event["uid"], FN),
                        start_timeout_ms=self.start_timeout_ms,
                        flow=self.flow.plan(FN, event),
                    )
                ],
            )
            for event in events
        ]
        await self.stores[router].routing.route(
            plans, app_id="shop", version="1", child_id="", free_slots=0, now_ms=NOW_MS + at_ms
        )

    async def route_without_function(self, event: Wire) -> None:
        """Route an event as code does that does not have the function yet."""
        plan = EventPlan.of(event["uid"], "", event["name"], orjson.dumps(event), [])
        await self.stores[0].routing.route(
            [plan], app_id="shop", version="0", child_id="", free_slots=0, now_ms=NOW_MS
        )

    async def route_all(self, events: Sequence[Wire], *, at_ms: int = 0, seed: int = 0) -> None:
        """Route events in any order on all routers at one time; a third of them twice, as if a router had died with them."""
        chance = random.Random(seed)
        work = [*events, *chance.sample(list(events), len(events) // 3)]
        chance.shuffle(work)
        await asyncio.gather(
            *[self.route(event, at_ms=at_ms, router=n % len(self.stores)) for n, event in enumerate(work)]
        )

    async def fire(self, *, at_ms: int) -> int:
        self.scene.now_ms = NOW_MS + at_ms
        return await self.scene.fire()

    async def statuses(self) -> dict[str, str]:
        """run id -> status, of all runs of the function."""
        store = self.stores[0]
        rows = await store.history.recent_runs(FN, limit=100_000)
        fields = await store.history.many([run_id for run_id, _ in rows])
        return {run_id: row["status"].decode() for (run_id, _), row in zip(rows, fields, strict=True)}

    async def record(self, event: Wire) -> str:
        """What the event's record says of the function."""
        return (await self.stores[0].history.event(event["uid"]))[f"fn:{FN}"].decode()

    async def batch_of(self, run_id: str) -> list[int]:
        """The numbers of a run's events."""
        store = self.stores[0]
        first = (await store.history.fields(run_id, "event"))[0]
        more = await store.client.call("LRANGE", store.keys.batch(run_id), 0, -1)
        return [orjson.loads(text)["data"]["number"] for text in (first, *more)]
