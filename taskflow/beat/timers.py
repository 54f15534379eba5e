"""Due sleeps, retries, time-outs and delayed starts. Rules S3.2, S6.3, S8.2."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import orjson

from taskflow.engine.final_event import final_event
from taskflow.store.claims import Hint
from taskflow.store.store import Store

BATCH = 200  # timers in one script, so that it blocks the store for about 2 ms at most

SendWork = Callable[[Sequence[Hint]], None]
PublishEvents = Callable[[Sequence[tuple[str, bytes]]], Awaitable[None]]

TIMEOUT_TEXT = {
    "start_timeout": "was not started within timeouts.start",
    "finish_timeout": "did not finish within timeouts.finish",
}


class Timers:
    """`run_once` fires what is due and says when the next is."""

    def __init__(self, store: Store, send_work: SendWork, publish: PublishEvents) -> None:
        self.store = store
        self.send_work = send_work
        self.publish = publish

    async def run_once(self, now_ms: int) -> int | None:
        """Fire all timers that are due; the due time (ms) of the next, or None."""
        while True:
            fired = await self.store.duties.fire_timers(limit=BATCH, now_ms=now_ms)
            if fired.hints:
                self.send_work(fired.hints)
            for run_id, kind in fired.timed_out:
                await self.cancel(run_id, kind, now_ms)
            if fired.count < BATCH:
                return fired.next_due_ms

    async def cancel(self, run_id: str, kind: str, now_ms: int) -> None:
        """Cancel a run that took too long. Rule S6.3."""
        function, event = await self.store.history.fields(run_id, "function", "event")
        error = {"name": "RunTimeout", "message": f"the run {TIMEOUT_TEXT[kind]}", "stack": ""}
        uid, told = "", b""
        if function is not None and event is not None:
            uid, told = final_event(
                "cancelled",
                run_id=run_id,
                function_id=function.decode(),
                event=orjson.loads(event),
                error=error,
                now_ms=now_ms,
            )
        outcome, hints = await self.store.routing.cancel(
            run_id, reason=orjson.dumps(error), event_uid=uid, event=told, now_ms=now_ms
        )
        if hints:
            self.send_work(hints)
        if outcome == "cancelled":
            await self.publish([(uid, told)])
