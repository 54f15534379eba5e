"""Operations: what operators do with the functions and runs of an app. Rules S6.1, S10.3, S10.4."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from taskflow.connected_app import ConnectedApp
from taskflow.function import Function, id_of
from taskflow.run import Run
from taskflow.types import UNCHANGED, JsonObject
from taskflow.values.keywords import check_keywords

if TYPE_CHECKING:
    from taskflow.runs.cancel import LiveRuns
    from taskflow.runs.replay import ReplayOptions


class Operations(ConnectedApp):
    """The methods of an app that act on many of its runs, or on runs that have ended."""

    def pause(self, function: Function[..., Any] | str, /, *, cancel_running: bool = False) -> int:
        """Let no run of the function begin or go on until it is resumed; return how many live runs were cancelled. Rule S10.4.

        Events, crons and invokes are recorded as skipped runs, which a replay picks up. Live runs stop before their next step, or
        are cancelled with `cancel_running`. The pause outlasts deploys and restarts of workers. Safe to repeat.
        Raises ConfigError for an unknown function, StoreUnavailable.
        """
        return self._link.block_on(lambda: self.apause(function, cancel_running=cancel_running))

    async def apause(self, function: Function[..., Any] | str, /, *, cancel_running: bool = False) -> int:
        """See `pause`."""
        return await self._control().pause(id_of(function), cancel_running=cancel_running)

    def resume(self, function: Function[..., Any] | str, /) -> bool:
        """Let the runs of a paused function go on; return whether it was paused. Safe to repeat. Rule S10.4.

        Runs that were skipped meanwhile stay skipped until you replay them: `app.replay(function, since=..., status=["skipped"])`.
        Raises StoreUnavailable.
        """
        return self._link.block_on(lambda: self.aresume(function))

    async def aresume(self, function: Function[..., Any] | str, /) -> bool:
        """See `resume`."""
        return (await self._control().resume(id_of(function))).was_paused

    def cancel_runs(
        self,
        function: Function[..., Any] | str | None = None,
        *,
        reason: str = "cancelled in bulk",
        **which: Unpack[LiveRuns],
    ) -> int:
        """Cancel the live runs of a function, or of all functions of this app; return how many. Rules S6.1, S6.2.

            app.cancel_runs(fulfil, status="queued", since="1h")
            app.cancel_runs("shop/fulfil", if_exp="event.data.customer == 'acme'", reason="acme has left")

        `reason` is kept with the runs; the other keywords are those of `LiveRuns`. Runs that execute end after their present steps.
        Raises ConfigError, InvalidDuration, StoreUnavailable.
        """
        return self._link.block_on(lambda: self.acancel_runs(function, reason=reason, **which))

    async def acancel_runs(
        self,
        function: Function[..., Any] | str | None = None,
        *,
        reason: str = "cancelled in bulk",
        **which: Unpack[LiveRuns],
    ) -> int:
        """See `cancel_runs`."""
        from taskflow.runs.cancel import LiveRuns, select_live

        check_keywords(which, LiveRuns, what="cancel_runs")
        functions = await self._functions_with_runs(function)
        selection = select_live(functions, now_ms=self._link.clock.now_ms(), **which)
        return await self._control().cancel_runs(selection, reason=reason)

    def rerun(
        self,
        run_id: str,
        *,
        from_step: str | None = None,
        data: JsonObject | None = None,
        output: Any = UNCHANGED,
    ) -> Run[Any]:
        """Run a run that has ended anew, and return the new run. Rule S10.3.

            app.rerun(run_id)
            app.rerun(run_id, data={"sku": "A8"})                         # with other data
            app.rerun(run_id, from_step="charge")                         # steps that ended before it are not executed again
            app.rerun(run_id, from_step="charge", output={"paid": True})  # nor is this step, which has this result

        Raises RunNotFound, RerunRefused, InvalidEvent, SerializationError, ConfigError when its function is gone, StoreUnavailable.
        """
        return self._link.block_on(lambda: self.arerun(run_id, from_step=from_step, data=data, output=output))

    async def arerun(
        self,
        run_id: str,
        *,
        from_step: str | None = None,
        data: JsonObject | None = None,
        output: Any = UNCHANGED,
    ) -> Run[Any]:
        """See `rerun`."""
        from taskflow.runs.edits import Edits

        edits = Edits(from_step=from_step, data=data, output=output)
        return self.run(await self._control().rerun(run_id, edits))

    def replay(self, function: Function[..., Any] | str, /, **options: Unpack[ReplayOptions]) -> int:
        """Rerun all runs of a function that failed, were cancelled or were skipped; return how many. Rule S10.3.

            app.replay(fulfil, since="1d")
            app.replay("shop/fulfil", since="2h", status=["failed"], if_exp="event.data.total > 100", over="10m")

        The keywords are those of `ReplayOptions`. A run that was rerun before is left out, since its rerun stands for it.
        Raises ConfigError, InvalidDuration, StoreUnavailable.
        """
        return self._link.block_on(lambda: self.areplay(function, **options))

    async def areplay(self, function: Function[..., Any] | str, /, **options: Unpack[ReplayOptions]) -> int:
        """See `replay`."""
        from taskflow.runs.replay import ReplayOptions, plan_replay

        check_keywords(options, ReplayOptions, what="replay")
        control = self._control()
        spec = await control.spec(function)
        request = plan_replay(spec, now_ms=self._link.clock.now_ms(), **options)
        return await control.replay(request, await control.find_replayed(request))
