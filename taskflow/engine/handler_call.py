"""HandlerCall: calls the handler of a run, once while this process has the run. Rules S4.1, S4.7, S5.1.

User code is called in two places: the handler here, and a step's function in `StepCalls.attempt`. `Execution` suspends and ends the
run. It does not know this object: references point down, so a run is freed without the cyclic garbage collector.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from taskflow.blocking_step import BlockingStep
from taskflow.context import Context, RunLogger
from taskflow.engine.execution import Execution
from taskflow.engine.lifecycle import Ending
from taskflow.engine.receive import EventsRefused, skip
from taskflow.engine.step_calls import StepCalls
from taskflow.engine.values import put_result_into_blob
from taskflow.engine.wrapped_handler import call_handler
from taskflow.errors import Suspend
from taskflow.event import ReceivedEvent
from taskflow.observability.run_log import current_run, current_step, run_started
from taskflow.step import Step
from taskflow.steps.call import check_output_size
from taskflow.steps.tools import Tools
from taskflow.values.stored import dump


class HandlerCall:
    """One call of a handler. All methods run on the loop's thread, in the handler's task."""

    __slots__ = ("run",)

    def __init__(self, run: Execution) -> None:
        self.run = run

    def start(self) -> None:
        """Start the handler's task; returns at once."""
        self.run.tree.start(self.main()).add_done_callback(self.run.report_bug)

    async def main(self) -> None:
        run, claimed, is_whole = self.run, self.run.claimed, self.run.assignment.is_whole
        current_run.set(run.facts)
        if is_whole and not claimed.steps and not claimed.attempt:
            run_started(run.facts, run.host.life_level)
        try:
            if run.trial is not None or claimed.cancel:
                await self.check_run()
            run.input.decode(run.host.codecs)
            output = await call_handler(run, self.arguments)
            body = b""
            if is_whole:
                body = dump(output, run.function.output, run.host.codecs, what=run.function._result_name)
                if len(body) >= run.host.codecs.blob_threshold:
                    body = await put_result_into_blob(run, body)
                check_output_size(body, run.function_id, run.host.config.max_step_output_bytes)
        except Suspend:
            return  # the part that raised it does the rest
        except EventsRefused as refusal:
            await skip(run, refusal)
        except BaseException as error:
            await run.handler_failed(error)
        else:
            if not is_whole:
                await run.miss(None)
            elif run.lifecycle.may_begin_step or run.is_let_go_on:
                await run.finish("completed", body)

    async def check_run(self) -> None:
        """Check, before the handler is called, that the run may execute. Raises WorkerLost, or Suspend when it ends here."""
        run = self.run
        if run.trial is not None:
            await run.ask(run.trial.check_crashes(run.owned))
        if not run.assignment.is_whole:
            # crashes of an offered step are always counted, and a cancelled run drops its steps itself
            return
        if run.claimed.cancel:
            run.stop(Ending.CANCELLED, run.claimed.cancel)
            raise Suspend
        if run.trial is not None and not await run.ask(run.trial.begin(run.owned)):
            run.stop(Ending.FENCED)
            raise Suspend

    def arguments(self, events: Sequence[ReceivedEvent]) -> tuple[Any, ...]:
        """The arguments of the handler, which gets these events."""
        run, claimed = self.run, self.run.claimed
        run.tree.tools = tools = Tools(StepCalls(run))
        step = Step(tools) if run.threads is None else BlockingStep(tools)
        context: Context[Any] = Context(
            events[0],
            list(events),
            run.run_id,
            run.function_id,
            claimed.attempt,
            datetime.fromtimestamp(claimed.started_ms / 1000, UTC),
            step,
            RunLogger(run.facts, self.is_silent),
            run.function._app,
        )
        return (context, step) if run.function.takes_step else (context,)

    def is_silent(self) -> bool:
        """Whether the handler's log lines are dropped now: they were logged before, or the run's own process logs them. S10.6."""
        run = self.run
        if not run.assignment.is_whole:
            return current_step.get() is None
        if current_step.get() is not None or run.journal.is_over:
            return False
        return run.journal.is_replaying or bool(run.turns.expected)
