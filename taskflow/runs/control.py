"""`RunControl`: acts on functions and on runs, of any app. Rules S2.1, S3.4, S6.1, S10.3, S10.4.

It needs the store, a courier to the broker, and a clock, but no app object and no code of the functions. The command line and
`TaskFlow` call it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeAlias, Unpack

import orjson

from taskflow.config import check_slug
from taskflow.errors import ConfigError, RunNotFound
from taskflow.event import Event, encode_event
from taskflow.function import Function, FunctionSpec, InvokeData, InvokeOptions, id_of, read_spec, start_ms
from taskflow.routing.plan import plan_run
from taskflow.run import no_run
from taskflow.runs.bulk import BulkRequest, BulkView
from taskflow.runs.cancel import cancel_live
from taskflow.runs.edits import NO_EDITS, Edits
from taskflow.runs.lookup import check_known, whole_run_id
from taskflow.runs.queues import QueueView, check_queue, find_queues
from taskflow.runs.replay import PAUSED, ReplayRequest, find_runs, plan_replay, replay_runs
from taskflow.runs.rerun import plan_rerun
from taskflow.runs.selection import Selection
from taskflow.signals import encode_signal
from taskflow.store.control import Rerun, cancel_reason
from taskflow.store.fields import text
from taskflow.store.hints import Hint
from taskflow.store.keys import signal_key
from taskflow.store.session import StoreSession
from taskflow.typed_data import invoke_event
from taskflow.types import RunId
from taskflow.values.clock import Clock
from taskflow.values.durations import EPOCH
from taskflow.values.ids import new_ulid, run_id_for
from taskflow.values.keywords import did_you_mean
from taskflow.values.record import record

MAX_SKEW_MS = 60_000  # a worker's clock may have been behind the clock of the process that paused

Tell: TypeAlias = Callable[[Sequence[Hint]], Awaitable[None]]
"""Tells workers of ready runs, and apps of events, as a script asked for. A failure only costs time: beat tells them again."""

Progress: TypeAlias = Callable[[int], object]
"""Gets the number of runs that were looked at so far."""


class Cancelled(StrEnum):
    """The outcome of cancelling a run."""

    CANCELLED = "cancelled"
    CANCELLING = "cancelling"  # it ends after its executing steps
    ENDED = "ended"  # it had ended before


OUTCOMES = {"cancelled": Cancelled.CANCELLED, "requested": Cancelled.CANCELLING, "final": Cancelled.ENDED}


@record
class Resumed:
    """The outcome of resuming a function."""

    was_paused: bool
    replayed: int = 0  # how many runs that were skipped meanwhile are replayed


class RunControl:
    """Acts on functions, queues and runs. Each method raises StoreUnavailable, and is safe to repeat unless it says otherwise.

    `functions` are those whose code is here, by full id: their options beat those that workers have registered.
    """

    def __init__(
        self,
        session: StoreSession,
        *,
        tell: Tell,
        clock: Clock,
        max_event_bytes: int,
        functions: Mapping[str, Function[Any, Any]] | None = None,
    ) -> None:
        self.session = session
        self.tell = tell
        self.clock = clock
        self.max_event_bytes = max_event_bytes
        self.known = functions or {}

    # --- functions ---

    async def spec(self, function: Function[..., Any] | str) -> FunctionSpec:
        """The spec of a function, given as object or "app/function". Raises ConfigError for a function that is unknown."""
        function_id = id_of(function)
        known = function if isinstance(function, Function) else self.known.get(function_id)
        if known is not None:
            return known.spec
        async with self.session.deadline() as store:
            manifest = await store.registry.manifest(function_id)
            registered = [] if manifest is not None else await store.registry.known_functions()
        if manifest is None:
            ids = {*self.known, *registered}
            hint = did_you_mean(function_id, ids) if ids else "."
            raise ConfigError(f"there is no function {function_id!r}: no worker has registered it{hint}")
        return read_spec(manifest)

    async def functions(self, app_id: str | None = None) -> list[str]:
        """The ids of all functions, or of one app's: functions whose code is here, and all that were ever registered or invoked."""
        async with self.session.deadline() as store:
            found = {*self.known, *await store.registry.known_functions()}
        return sorted(each for each in found if app_id is None or each.startswith(f"{app_id}/"))

    async def check_function(self, function_id: str) -> None:
        """Raise ConfigError for a function that never was. Its code may be gone, as its runs may still be there."""
        if function_id not in self.known:
            async with self.session.deadline() as store:
                await check_known(store, function_id)

    async def pause(self, function_id: str, *, cancel_running: bool = False) -> int:
        """Let no run of the function begin or go on; return how many live runs were cancelled. Rule S10.4. Raises ConfigError."""
        await self.spec(function_id)
        async with self.session.deadline() as store:
            _, hints = await store.steering.pause(function_id, now_ms=self.clock.now_ms())
        await self.tell(hints)
        if not cancel_running:
            return 0
        return await self.cancel_runs(Selection.live((function_id,)), reason="its function was paused")

    async def resume(self, function_id: str, *, replay_skipped: bool = False) -> Resumed:
        """Let the runs of a paused function go on; with `replay_skipped` replay those that were skipped meanwhile. Rule S10.4."""
        async with self.session.deadline() as store:
            since_ms = await store.steering.paused_since(function_id)
        if since_ms is None or not replay_skipped:
            return Resumed(await self.unpause(function_id))
        # Replay first: reruns are held while the function is paused. If this process dies, it is still paused: call again.
        replayed = await self.replay_paused(function_id, since_ms)
        await self.unpause(function_id)
        # Replay also the runs that were skipped in between.
        return Resumed(True, replayed + await self.replay_paused(function_id, since_ms))

    async def unpause(self, function_id: str) -> bool:
        """Lift the pause; return whether the function was paused."""
        async with self.session.deadline() as store:
            since_ms, hints = await store.steering.resume(function_id, now_ms=self.clock.now_ms())
        await self.tell(hints)
        return since_ms is not None

    # --- queues ---

    async def queues(self, app_id: str | None = None) -> list[QueueView]:
        """The queues of all apps, or of one, with the numbers of their live runs."""
        async with self.session.deadline() as store:
            return await find_queues(store, app_id)

    async def pause_queue(self, app_id: str, queue: str) -> None:
        """Let no run of the queue begin or go on. Rule S10.4. Raises ConfigError for an unknown queue."""
        async with self.session.deadline() as store:
            await check_queue(store, app_id, queue)
            await store.steering.pause_queue(app_id, queue, now_ms=self.clock.now_ms())

    async def resume_queue(self, app_id: str, queue: str) -> bool:
        """Let the queue's runs go on; return whether it was paused. Rule S10.4."""
        async with self.session.deadline() as store:
            since_ms, hints = await store.steering.resume_queue(app_id, queue, now_ms=self.clock.now_ms())
        await self.tell(hints)
        return since_ms is not None

    # --- start ---

    async def invoke(
        self, spec: FunctionSpec, data: InvokeData, *, version: str = "", uid: str | None = None,
        **options: Unpack[InvokeOptions],
    ) -> RunId:  # fmt: skip
        """Start one run of the function, as `start` does; the keywords are those of `InvokeOptions`."""
        chosen_id = options.get("id")
        event = invoke_event(
            spec, data, id=chosen_id, user=options.get("user"), headers=options.get("headers")
        )
        return await self.start(
            spec, event, version=version, queue=options.get("queue"), chosen_id=chosen_id or "", uid=uid,
            start_at_ms=start_ms(options, now_ms=self.clock.now_ms()),
        )  # fmt: skip

    async def start(
        self,
        spec: FunctionSpec,
        event: Event,
        *,
        cause: str = "invoke",
        version: str = "",
        queue: str | None = None,
        start_at_ms: int = 0,
        chosen_id: str = "",
        uid: str | None = None,
    ) -> RunId:
        """Make one run of the function whose event is this, past triggers and flow control that picks among events.

        It goes to the function's queue, or to `queue`, which the app's workers must serve, and begins at
        `start_at_ms`, or at once. Each call makes another run, but for calls with the same `uid`; with a
        `chosen_id` it is one in 24 h, which all calls return. Raises InvalidEvent, ConfigError for what can't be a queue.
        """
        if queue is not None:
            check_slug(queue, what="queue")
        now_ms = self.clock.now_ms()
        uid = uid or new_ulid(now_ms)
        _, encoded = encode_event(
            event,
            now_ms=now_ms,
            max_bytes=self.max_event_bytes,
            uid=uid,
            internal=True,
            codecs=self.session.codecs,
        )
        plan = plan_run(spec, orjson.loads(encoded), queue=queue, start_at_ms=start_at_ms)
        async with self.session.deadline() as store:
            run_id, hints = await store.routing.start_run(
                plan, uid=uid, name=event.name, event=encoded, cause=cause, version=version, now_ms=now_ms, chosen_id=chosen_id
            )  # fmt: skip
        await self.tell(hints)
        return run_id

    async def signal(self, app_id: str, name: str, data: Any, *, uid: str | None = None) -> str | None:
        """Resume the run of the app that waits for the signal; return its id, or None if none does. Rule S3.4.

        Safe to repeat only with the same `uid`: else a second signal may find another run.
        Raises NonRetriableError, SerializationError.
        """
        body = encode_signal(name, data, self.session.codecs, max_bytes=self.max_event_bytes)
        now_ms = self.clock.now_ms()
        async with self.session.deadline() as store:
            run_id, hints = await store.routing.send_signal(
                signal_key(app_id, name), body, uid=uid or new_ulid(now_ms), now_ms=now_ms
            )
        await self.tell(hints)
        return run_id

    async def whole_run_id(self, given: str) -> str:
        """The whole id of the only run whose id begins with `given`. Raises RunNotFound."""
        async with self.session.deadline() as store:
            return await whole_run_id(store, given)

    # --- cancel ---

    async def cancel(self, run_id: str, reason: str) -> Cancelled:
        """Cancel a run, at once or after its executing steps. Rule S6.2. Raises RunNotFound."""
        async with self.session.deadline() as store:
            (outcome,), hints = await store.routing.cancel(
                [run_id], reason=cancel_reason(reason), now_ms=self.clock.now_ms()
            )
        if outcome not in OUTCOMES:
            raise RunNotFound(no_run(run_id))
        await self.tell(hints)
        return OUTCOMES[outcome]

    async def cancel_runs(
        self, selection: Selection, *, reason: str, on_progress: Progress = lambda done: None
    ) -> int:
        """Cancel the runs of a selection that `select_live` made; return how many. Rule S6.1."""
        return await cancel_live(
            self.session, selection, reason=reason, clock=self.clock, tell=self.tell, on_progress=on_progress
        )

    # --- rerun and replay ---

    async def rerun(self, run_id: str, edits: Edits = NO_EDITS, *, uid: str | None = None) -> RunId:
        """Run a run that has ended anew; return the id of the new run. Rule S10.3.

        Each call makes a run, but for calls with the same `uid`.

        Raises RunNotFound, RerunRefused, InvalidEvent, SerializationError, ConfigError when its function is gone.
        """
        async with self.session.deadline() as store:
            stored = await store.history.run(run_id)
        if stored is None:
            raise RunNotFound(no_run(run_id))
        spec = await self.spec(text(stored.fields, "function"))
        now_ms = self.clock.now_ms()
        plan = plan_rerun(
            stored, spec, new_id=run_id_for(uid or new_ulid(now_ms), spec.id), edits=edits,
            max_event_bytes=self.max_event_bytes, codecs=self.session.codecs, now_ms=now_ms,
        )  # fmt: skip
        async with self.session.deadline() as store:
            # Before the rerun is made: it must find the blobs of the steps that it takes over.
            await store.blob_owners.note_users(plan.blob_owners, plan.run.run_id)
            outcome, hints = await store.steering.rerun(
                run_id, plan.run, cause="rerun", event=plan.event, steps=plan.steps, now_ms=now_ms
            )
        if outcome is Rerun.UNKNOWN:  # the run was removed since it was read
            raise RunNotFound(no_run(run_id))
        await self.tell(hints)
        return plan.run.run_id

    async def replay(
        self, request: ReplayRequest, run_ids: Sequence[str], *, on_progress: Progress = lambda done: None
    ) -> int:
        """Rerun the runs that `find_replayed` found; return how many. Rule S10.3."""
        return await replay_runs(
            self.session, request, run_ids, now_ms=self.clock.now_ms(), max_event_bytes=self.max_event_bytes, tell=self.tell,
            on_progress=on_progress,
        )  # fmt: skip

    async def find_replayed(self, request: ReplayRequest) -> list[str]:
        """The ids of the runs to replay, oldest first."""
        return await find_runs(self.session, request)

    async def replay_paused(self, function_id: str, since_ms: int) -> int:
        """Replay the runs that were skipped since `since_ms` because the function was paused."""
        request = plan_replay(
            await self.spec(function_id), since=EPOCH + timedelta(milliseconds=since_ms - MAX_SKEW_MS), status=["skipped"],
            skipped_for=PAUSED, replay_id=f"resume-{since_ms}", now_ms=self.clock.now_ms(),
        )  # fmt: skip
        return await self.replay(request, await self.find_replayed(request))

    # --- bulk operations ---

    async def start_bulk(self, bulk_id: str, request: BulkRequest) -> BulkView:
        """Keep a bulk operation, which beat carries on; return it, or the one of this id. Rule S14.6."""
        async with self.session.deadline() as store:
            await store.bulks.create(bulk_id, request.dump(), now_ms=self.clock.now_ms())
        return await self.bulk(bulk_id)

    async def bulk(self, bulk_id: str) -> BulkView:
        """A bulk operation. Raises ConfigError for an unknown one."""
        async with self.session.deadline() as store:
            found = await store.bulks.find(bulk_id)
        if found is None:
            raise ConfigError(f"there is no bulk operation {bulk_id!r}: taskflow bulk list lists them")
        return BulkView.of(found)

    async def bulks(self, *, limit: int) -> list[BulkView]:
        """The newest bulk operations, newest first."""
        async with self.session.deadline() as store:
            return [BulkView.of(each) for each in await store.bulks.newest(limit=limit)]

    async def stop_bulk(self, bulk_id: str) -> bool:
        """Stop a bulk operation; False if it had ended before. Raises ConfigError for an unknown one."""
        await self.bulk(bulk_id)
        async with self.session.deadline() as store:
            return bool(await store.bulks.stop(bulk_id, now_ms=self.clock.now_ms()))
