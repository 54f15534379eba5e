"""What people do to functions and to runs: pause, resume, cancel many, rerun, replay. Rules S6.1, S10.3, S10.4."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from taskflow.config import Config
from taskflow.errors import RunNotFound
from taskflow.function import Function, FunctionSpec
from taskflow.run import Run, RunReader
from taskflow.runs.cancel import cancel_live, select_live
from taskflow.runs.lookup import registered_functions
from taskflow.runs.replay import REPLAYED, ReplayRequest, find_runs, plan_replay, replay_runs
from taskflow.runs.rerun import UNCHANGED, Edits, plan_rerun
from taskflow.runs.selection import Past, Selection
from taskflow.store.claims import Hint
from taskflow.store.control import Rerun, cancel_reason
from taskflow.store.session import StoreSession
from taskflow.types import Duration, JsonObject, RunId
from taskflow.values.clock import Clock
from taskflow.values.ids import new_ulid, run_id_for

T = TypeVar("T")


class Steering(ABC, RunReader):
    """The part of `TaskFlow` for operators."""

    config: Config
    clock: Clock
    functions: dict[str, Function[Any, Any]]

    @abstractmethod
    def session(self) -> StoreSession: ...

    @abstractmethod
    async def find_spec(self, function: Function[..., Any] | str, session: StoreSession) -> FunctionSpec: ...

    @abstractmethod
    async def send_hints(self, hints: Sequence[Hint]) -> None: ...

    @abstractmethod
    def block_on(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T: ...

    # --- cancel one ---

    async def cancel_run(self, run_id: str, reason: str) -> bool:
        """Cancel a run; False when it had ended. Raises RunNotFound. Rule S6.2."""
        session = self.session()
        async with session.deadline() as store:
            outcome, hints = await store.routing.cancel(
                run_id, reason=cancel_reason(reason), now_ms=self.clock.now_ms()
            )
        if outcome == "unknown":
            raise RunNotFound(
                f"there is no run {run_id}: check the id; finished runs are removed after the retention"
            )
        await self.send_hints(hints)
        return outcome != "final"

    # --- pause ---

    def pause(self, function: Function[..., Any] | str, /, *, cancel_running: bool = False) -> int:
        """Let no run of the function begin or go on until it is resumed; how many live runs were cancelled. Rule S10.4.

        Events, crons and invokes are recorded as skipped runs, which a replay picks up. Live runs stop before their next step,
        or with `cancel_running` are cancelled. Deploys and restarts of workers don't resume it. Safe to repeat.
        Raises ConfigError for an unknown function, StoreUnavailable.
        """
        return self.block_on(lambda: self.apause(function, cancel_running=cancel_running))

    async def apause(self, function: Function[..., Any] | str, /, *, cancel_running: bool = False) -> int:
        """See `pause`."""
        spec = await self.find_spec(function, self.session())
        async with self.session().deadline() as store:
            _, hints = await store.steering.pause(spec.id, now_ms=self.clock.now_ms())
        await self.send_hints(hints)
        return await self.acancel_runs(spec.id, reason="its function was paused") if cancel_running else 0

    def resume(self, function: Function[..., Any] | str, /) -> bool:
        """Let the runs of a paused function go on; False when it was not paused. Safe to repeat. Rule S10.4.

        What was skipped meanwhile stays so until it is replayed: `app.replay(function, since=..., status=["skipped"])`.
        Raises StoreUnavailable.
        """
        return self.block_on(lambda: self.aresume(function))

    async def aresume(self, function: Function[..., Any] | str, /) -> bool:
        """See `resume`."""
        function_id = function.id if isinstance(function, Function) else function
        async with self.session().deadline() as store:
            since_ms, hints = await store.steering.resume(function_id, now_ms=self.clock.now_ms())
        await self.send_hints(hints)
        return since_ms is not None

    # --- cancel ---

    def cancel_runs(
        self,
        function: Function[..., Any] | str | None = None,
        *,
        status: str | Sequence[str] | None = None,
        since: Past | None = None,
        until: Past | None = None,
        if_exp: str | None = None,
        reason: str = "cancelled in bulk",
    ) -> int:
        """Cancel the live runs of a function, or of all functions of this app; how many. Rules S6.1, S6.2.

            app.cancel_runs(fulfil, status="queued", since="1h")
            app.cancel_runs("shop/fulfil", if_exp="event.data.customer == 'acme'", reason="acme has left")

        `status`: one or several of scheduled, queued, running, waiting. `since`, `until`: when the runs were made; "1h" is an hour
        ago. `if_exp`: CEL over their event. Runs that execute end after their steps. Safe to repeat.
        Raises ConfigError, InvalidDuration, StoreUnavailable.
        """
        return self.block_on(
            lambda: self.acancel_runs(
                function, status=status, since=since, until=until, if_exp=if_exp, reason=reason
            )
        )

    async def acancel_runs(
        self,
        function: Function[..., Any] | str | None = None,
        *,
        status: str | Sequence[str] | None = None,
        since: Past | None = None,
        until: Past | None = None,
        if_exp: str | None = None,
        reason: str = "cancelled in bulk",
    ) -> int:
        """See `cancel_runs`."""
        functions = await self.functions_with_runs(function)
        now_ms = self.clock.now_ms()
        selection = select_live(
            functions, status=status, since=since, until=until, if_exp=if_exp, now_ms=now_ms
        )
        return await self.cancel_selected(selection, reason=reason)

    async def cancel_selected(
        self, selection: Selection, *, reason: str, on_progress: Callable[[int], object] = lambda done: None
    ) -> int:
        """Cancel the runs that `select_live` selects; `on_progress` is told how many there were so far."""
        return await cancel_live(
            self.session(),
            selection,
            reason=reason,
            clock=self.clock,
            send_hints=self.send_hints,
            on_progress=on_progress,
        )

    async def functions_with_runs(self, function: Function[..., Any] | str | None) -> list[str]:
        """The id of this function, or those of all functions of the app. Raises ConfigError for one that never was."""
        if isinstance(function, Function):
            return [function.id]
        async with self.session().deadline() as store:
            if function is None:
                registered = await registered_functions(store)
                return sorted(
                    {
                        *self.functions,
                        *[each for each in registered if each.startswith(f"{self.config.app_id}/")],
                    }
                )
            # The code may be gone, and its runs still be there.
            if not await store.history.recent_runs(function, limit=1):
                await self.find_spec(function, self.session())
        return [function]

    # --- rerun ---

    def rerun(
        self,
        run_id: str,
        *,
        from_step: str | None = None,
        data: JsonObject | None = None,
        output: Any = UNCHANGED,
    ) -> Run:
        """Make a run that has ended anew, and return the new run. Rule S10.3.

            app.rerun(run_id)
            app.rerun(run_id, data={"sku": "A8"})                         # with another input
            app.rerun(run_id, from_step="charge")                         # what came before is not executed again
            app.rerun(run_id, from_step="charge", output={"paid": True})  # nor is this step

        Raises RunNotFound, RerunRefused, InvalidEvent, SerializationError, ConfigError when its function is gone, StoreUnavailable.
        """
        return self.block_on(lambda: self.arerun(run_id, from_step=from_step, data=data, output=output))

    async def arerun(
        self,
        run_id: str,
        *,
        from_step: str | None = None,
        data: JsonObject | None = None,
        output: Any = UNCHANGED,
    ) -> Run:
        """See `rerun`."""
        session, run = self.session(), Run(RunId(run_id), self)
        async with session.deadline() as store:
            stored = await store.history.run(run_id)
        if stored is None:
            raise run.not_found()
        spec = await self.find_spec(stored.fields["function"].decode(), session)
        now_ms = self.clock.now_ms()
        plan = plan_rerun(
            stored,
            spec,
            new_id=run_id_for(new_ulid(now_ms), spec.id),
            edits=Edits(from_step=from_step, data=data, output=output),
            max_event_bytes=self.config.max_event_bytes,
            now_ms=now_ms,
        )
        async with session.deadline() as store:
            outcome, hints = await store.steering.rerun(
                run_id, plan.run, cause="rerun", event=plan.event, steps=plan.steps, now_ms=now_ms
            )
        if outcome is Rerun.UNKNOWN:  # removed since
            raise run.not_found()
        await self.send_hints(hints)
        return Run(plan.run.run_id, self)

    # --- replay ---

    def replay(
        self,
        function: Function[..., Any] | str,
        /,
        *,
        since: Past,
        until: Past | None = None,
        status: Sequence[str] = REPLAYED,
        if_exp: str | None = None,
        over: Duration = 0,
        replay_id: str | None = None,
    ) -> int:
        """Rerun all runs of a function that ended in one of these statuses; how many. Rule S10.3.

            app.replay(fulfil, since="1d")
            app.replay("shop/fulfil", since="2h", status=["failed"], if_exp="event.data.total > 100", over="10m")

        `since`, `until`: when the runs were made; "1d" is a day ago. `if_exp`: CEL over their event. `over`: spread their starts
        evenly over this time. A run that was rerun before is left out: its rerun stands for it. A call with a `replay_id` of yours
        can be repeated after a crash: no run is replayed twice.
        Raises ConfigError, InvalidDuration, StoreUnavailable.
        """
        return self.block_on(
            lambda: self.areplay(
                function,
                since=since,
                until=until,
                status=status,
                if_exp=if_exp,
                over=over,
                replay_id=replay_id,
            )
        )

    async def areplay(
        self,
        function: Function[..., Any] | str,
        /,
        *,
        since: Past,
        until: Past | None = None,
        status: Sequence[str] = REPLAYED,
        if_exp: str | None = None,
        over: Duration = 0,
        replay_id: str | None = None,
    ) -> int:
        """See `replay`."""
        request = plan_replay(
            await self.find_spec(function, self.session()),
            since=since, until=until, status=status, if_exp=if_exp, over=over, replay_id=replay_id,
            now_ms=self.clock.now_ms(),
        )  # fmt: skip
        return await self.replay_found(request, await find_runs(self.session(), request))

    async def replay_found(
        self,
        request: ReplayRequest,
        run_ids: Sequence[str],
        *,
        on_progress: Callable[[int], object] = lambda done: None,
    ) -> int:
        """Replay runs that `find_runs` found; `on_progress` is told how many were looked at so far."""
        return await replay_runs(
            self.session(),
            request,
            run_ids,
            now_ms=self.clock.now_ms(),
            max_event_bytes=self.config.max_event_bytes,
            send_hints=self.send_hints,
            on_progress=on_progress,
        )
