"""Steering: the store's methods for operators (pause, resume, rerun, watch). Rules S10.3, S10.4, S10.7."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import orjson

from taskflow.redis.client import StoreClient
from taskflow.redis.scripts import Scripts
from taskflow.store.hints import Hint, parse_hints
from taskflow.store.keys import SEPARATOR, Keys
from taskflow.store.routing import RunPlan
from taskflow.values.record import record


class Rerun(StrEnum):
    """The outcome of asking for a rerun."""

    MADE = "made"
    KNOWN = "known"  # the rerun was made before
    LIVE = "live"  # the run has not ended
    UNKNOWN = "unknown"  # there is no such run, or its retention is over


@record
class KeptSteps:
    """The steps that a rerun does not execute: steps whose memos it takes over, and the step whose outcome was edited.

    Their places in the order of outcomes are below `next_order`.
    """

    keys: Sequence[str] = ()
    next_order: int = 0
    edited_key: str = ""
    edited: bytes = b""  # msgpack


NO_STEPS = KeptSteps()


class Steering:
    """The scripts that operators call."""

    def __init__(self, client: StoreClient, scripts: Scripts, keys: Keys) -> None:
        self.client = client
        self.scripts = scripts
        self.keys = keys

    async def pause(self, function_id: str, *, now_ms: int) -> tuple[int, list[Hint]]:
        """Let no run of the function begin or go on; return since when (ms) it is paused."""
        since_ms, hints = await self.scripts.pause_function(now_ms=now_ms, function_id=function_id)
        return since_ms, parse_hints(hints)

    async def resume(self, function_id: str, *, now_ms: int) -> tuple[int | None, list[Hint]]:
        """Let the function's runs go on; return since when (ms) it was paused, None if it was not."""
        since_ms, hints = await self.scripts.resume_function(now_ms=now_ms, function_id=function_id)
        return int(since_ms) if since_ms else None, parse_hints(hints)

    async def paused(self) -> dict[str, int]:
        """The paused functions, with the time (ms) at which each was paused."""
        flat = await self.client.call("HGETALL", self.keys.paused)
        since_ms = {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}
        return {name: at_ms for name, at_ms in since_ms.items() if SEPARATOR not in name}

    async def watch(self, run_id: str) -> bool:
        """Have scripts publish each change of a run, as long as somebody listens; False if there is no such run."""
        return bool(await self.scripts.watch_run(run_id=run_id))

    async def pause_queue(self, app_id: str, queue: str, *, now_ms: int) -> int:
        """Let nobody claim runs of an app's queue; return since when (ms) it is paused."""
        return int(await self.scripts.pause_queue(now_ms=now_ms, app_id=app_id, queue=queue))

    async def resume_queue(self, app_id: str, queue: str, *, now_ms: int) -> tuple[int | None, list[Hint]]:
        """Let the queue's runs go on; return since when (ms) it was paused, None if it was not."""
        since_ms, hints = await self.scripts.resume_queue(now_ms=now_ms, app_id=app_id, queue=queue)
        return int(since_ms) if since_ms else None, parse_hints(hints)

    async def paused_queues(self) -> dict[tuple[str, str], int]:
        """The paused queues, as (app, queue), with the time (ms) at which each was paused."""
        flat = await self.client.call("HGETALL", self.keys.paused)
        names = [flat[i].decode().partition(SEPARATOR) for i in range(0, len(flat), 2)]
        return {
            (app_id, queue): int(flat[2 * i + 1])
            for i, (app_id, separator, queue) in enumerate(names)
            if separator
        }

    async def held_since(self, function_id: str, queue: str) -> tuple[int | None, int | None]:
        """When (ms) the function was paused, or None, and when this queue of its app was."""
        queue_name = f"{function_id.partition('/')[0]}{SEPARATOR}{queue}"
        function_ms, queue_ms = await self.client.call("HMGET", self.keys.paused, function_id, queue_name)
        return function_ms and int(function_ms), queue_ms and int(queue_ms)

    async def paused_since(self, function_id: str) -> int | None:
        """When (ms) the function was paused, or None."""
        since_ms = await self.client.call("HGET", self.keys.paused, function_id)
        return None if since_ms is None else int(since_ms)

    async def rerun(
        self,
        run_id: str,
        plan: RunPlan,
        *,
        cause: str,
        replay_id: str = "",
        event: bytes = b"",
        steps: KeptSteps = NO_STEPS,
        now_ms: int,
    ) -> tuple[Rerun, list[Hint]]:
        """Make the run `plan` from a run that has ended. `event` is JSON, and empty if it is that run's event."""
        outcome, hints = await self.scripts.rerun_run(
            now_ms=now_ms,
            run_id=run_id,
            new_id=plan.run_id,
            cause=cause,
            replay_id=replay_id,
            queue=plan.queue,
            event=event,
            start_at_ms=plan.start_at_ms,
            start_timeout_ms=plan.start_timeout_ms,
            finish_timeout_ms=plan.finish_timeout_ms,
            flow=plan.flow,
            next_order=steps.next_order or "",
            edited_key=steps.edited_key,
            edited=steps.edited,
            kept_keys=steps.keys,
        )
        return Rerun(outcome.decode()), parse_hints(hints)


def cancel_reason(message: str) -> bytes:
    """The reason of a cancellation as JSON, in the form of an error, in which the store keeps it."""
    return orjson.dumps({"name": "Cancelled", "message": message, "stack": ""})
