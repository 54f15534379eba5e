"""StepCalls: does what the step tools of one handler ask for; it implements `StepHost`. Rules S3, S4.1, S4.4, S5.1."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from taskflow.codecs.codecs import Codecs
from taskflow.config import Config
from taskflow.dependencies.needs import NO_NEEDS, needs_of, plain
from taskflow.engine.around import StepAround, around_of
from taskflow.engine.assignment import OfferedSteps
from taskflow.engine.attempts import attempt_failed, attempt_succeeded
from taskflow.engine.changed_code import begin_anew, warn_of_order
from taskflow.engine.execution import Execution
from taskflow.engine.handler import call_step_function
from taskflow.engine.input import decode_received
from taskflow.engine.lifecycle import Ending, Phase
from taskflow.engine.lookback import store_or_find
from taskflow.engine.offers import Offer, Place
from taskflow.engine.progress import ProgressReports
from taskflow.engine.values import decode_failed, fetch, put_into_blob
from taskflow.errors import DecodeError, NestedStepError, StepError, Suspend
from taskflow.event import Event, ReceivedEvent
from taskflow.expressions.matching import WaitPlan
from taskflow.middleware.facts import Outcome
from taskflow.middleware.sending import AsyncSend, asend_through
from taskflow.observability.run_log import ExecutingStep, current_step
from taskflow.steps.call import Call, Done, StepCall, check_output_size
from taskflow.store.claims import InvokedRun, ParkedOp, Verdict
from taskflow.store.operation import DONE, DROPPED, TAKEN, WAIT, Operation, step_error
from taskflow.values.stored import dump, load

R = TypeVar("R")
PLAIN = (str, int, bool, type(None))  # values that come back from JSON as they were


class StepCalls:
    """The engine as the tools of one handler see it. All but `block_on` runs on the loop's thread, in the handler's tasks."""

    __slots__ = ("run",)

    def __init__(self, run: Execution) -> None:
        self.run = run

    @property
    def config(self) -> Config:
        return self.run.host.config

    @property
    def codecs(self) -> Codecs:
        return self.run.host.codecs

    async def begin(self, step_id: str, kind: str) -> Call:
        run = self.run
        if (outer := current_step.get()) is not None:
            outer.misuse = NestedStepError(
                f"step {step_id!r} was called inside step {outer.id!r}. A step's function is one unit of work: call the step tools "
                "from the handler, or move the inner work into a function of its own and use step.invoke."
            )
            raise outer.misuse
        if not run.is_going_on:
            run.refuse_step()
            await run.tree.refuse()
        run.races.check()
        call = run.journal.call(step_id, kind)
        if run.journal.order_warning:
            run.spawn(warn_of_order(run, run.journal.take_warning()))
        if (known := call.known) is not None and (known.kind != kind or known.state == DROPPED):
            await begin_anew(run, call, known, kind)
        return call

    async def recall(self, call: Call) -> Operation:
        assert call.known is not None, "only what is known can be recalled"
        if call.known.is_away:
            await fetch(self.run, call.key, call.known)
        await self.run.turns.take(call.key)
        self.run.journal.reached(call.key)
        return call.known

    def check_outcome(self, call: Call, data: bytes | str) -> None:
        check_output_size(data, f"step {call.id!r}", self.config.max_step_output_bytes)
        self.run.journal.check_size()

    async def decode_failed(self, error: DecodeError) -> NoReturn:
        await decode_failed(self.run, error)

    async def execute(self, step: StepCall, op: Operation) -> Done | Operation:
        run = self.run
        if run.taken is not None:
            await self.execute_taken(step, op, run.taken)
        if not run.slots.is_own_taken:
            return await self.attempt(step, op)
        op, slot = await self.find_slot(step.call, op)
        if slot is None:
            return op
        run.slots.occupy(slot)
        try:
            return await self.attempt(step, op)
        finally:
            run.slots.give_back(slot)

    async def execute_taken(self, step: StepCall, op: Operation, taken: OfferedSteps) -> NoReturn:
        """Execute a step that the run's own process offers whenever it is taken here. Its outcome is for that process."""
        key = step.call.key
        while True:
            if not taken.may_execute(key):
                op = await taken.rest(key)
            op.state = WAIT
            # A failure is stored, like a result.
            with suppress(StepError):
                came = await self.attempt(step, op)
                if isinstance(came, Operation):
                    await self.commit(key, came)
            taken.over(key)

    async def attempt(self, step: StepCall, op: Operation) -> Done | Operation:
        """Call the step's function once, and store the outcome. Nothing else calls it."""
        run, host, call = self.run, self.run.host, step.call
        timeout_ms = step.settings.timeout_ms
        if timeout_ms is None:
            timeout_ms = run.function.spec.timeouts.step_ms
        around: StepAround | None = None
        run.step_begins()
        try:
            if not host.lease.is_valid(epoch=run.epoch):
                # This process was paused: another one may have executed this step by now (S9.4).
                await self.check_claim()
            started_ms = host.clock.now_ms()
            try:
                fn = step.fn
                is_plain = getattr(fn, "__defaults__", fn) is None and id(fn.__code__) in plain
                needs = NO_NEEDS if is_plain else needs_of(fn)
                if run.around is None and needs:
                    run.around = around_of(run.function, run.claimed, run.input, host)
                if run.around is not None:
                    around = await run.around.step_begins(
                        call.id, call.key, len(op.attempts), started_ms, needs
                    )
                executing = ExecutingStep(call.id, len(op.attempts))
                result = await call_step_function(
                    executing, step.fn, step.args, step.kwargs, threads=host.threads, timeout_ms=timeout_ms,
                    on_abandoned=host.abandon_thread, around=around if around is not None and around.is_called else None,
                )  # fmt: skip
                if executing.misuse is not None:
                    raise executing.misuse
                what = f"step {call.id!r}"
                data = text = dump(result, step.output, host.codecs, what=what)
                if len(text) >= host.codecs.blob_threshold:
                    data = await put_into_blob(run, text)
                check_output_size(data, what, host.config.max_step_output_bytes)
                # Load the result as a replay will, so that a type that can't be restored shows at once.
                if step.output.load is not None or type(result) not in PLAIN:
                    result = load(text, step.output, host.codecs, what=what)
            except asyncio.CancelledError:
                # User code has cancelled it, by `asyncio.timeout` for example.
                if run.is_going_on and run.taken is None:
                    run.journal.give_up(call.key, op)
                if around is not None and not around.is_over:
                    await around.ends(Outcome("cancelled"), host.clock.now_ms())
                raise
            except Exception as error:
                attempt_failed(run, step, op, error, started_ms=started_ms)
                if around is not None:
                    await around.fails(error, op, host.clock.now_ms())
                if op.error is None:
                    return op
                await self.commit(call.key, op)
                raise step_error(host.codecs.opened_error(op.error), call.id) from error
            attempt_succeeded(run, op, data, started_ms=started_ms)
            if around is not None:
                await around.completes(result, host.clock.now_ms())
            await self.commit(call.key, op)
            return Done(result)
        finally:
            run.slots.end()

    async def check_claim(self) -> None:
        """Ask the store whether the claim still holds. Raises Suspend if not. Rule S9.4."""
        run = self.run
        if run.taken is not None:
            run.stop(Ending.HANDED_BACK)  # changes nothing if the run was taken away already
            raise Suspend
        epoch = run.host.lease.epoch
        verdict, _ = await run.ask(run.owned.fetch((), is_all=False))
        if verdict is Verdict.FENCED:
            run.stop(Ending.FENCED)
            raise Suspend
        run.epoch = epoch

    async def commit(self, key: str, op: Operation) -> None:
        """Store an outcome and wait for its turn. On return it is stored, and the claim holds; otherwise Suspend is raised."""
        run = self.run
        if run.taken is not None:
            await run.ask(run.taken.owned.commit(key, op.pack()))
            return
        turns = run.turns
        op.order = turns.next_order
        keys_and_memos = run.journal.ended(key, op)
        turns.expect(key)
        try:
            verdict = await run.ask(run.owned.commit(keys_and_memos, is_completed=op.state == DONE))
        except BaseException:
            # The step lost a race: nobody will ask for its outcome, and other outcomes must not wait for it.
            turns.forget(key)
            raise
        if verdict is not Verdict.OK:
            run.obey(verdict)
            raise Suspend
        if run.trial is not None:
            run.trial.end()
        run.journal.committed(op)
        if (
            run.lifecycle.phase is Phase.FINISHING
        ):  # the handler has failed meanwhile; its next attempt finds the outcome
            raise Suspend
        if not run.tree.is_single:
            # The next step need not wait until it is this outcome's turn.
            run.slots.end()
        await turns.take(key)
        run.journal.went_on()

    async def keep(self, call: Call, op: Operation) -> None:
        run = self.run
        if not run.assignment.may_execute(call.key):
            await run.tree.parked()  # rest for ever: the run's own process stores it
        op.ended, op.due = self.now_ms(), None
        if op.state == WAIT:
            op.state, op.data = DONE, b"null"
        run.step_begins()
        try:
            await self.commit(call.key, op)
        finally:
            run.slots.end()

    async def wait(
        self, call: Call, op: Operation, *, is_stored: bool = False, child: InvokedRun | None = None
    ) -> Operation:
        run, key = self.run, call.key
        if run.taken is not None:
            if op.kind != "step":
                await run.tree.parked()  # rest for ever: the run's own process waits for it
            return op
        waiter = run.tree.parked()
        run.journal.park(key, waiter)
        if not is_stored:
            run.journal.store(key, op, child)
            run.store_soon()
        elif run.parking.was_told:  # perhaps this operation was resolved before it was parked
            run.look(key)
        try:
            resolved: Operation = await waiter
        except asyncio.CancelledError:
            # The operation may have been resolved in the turn of the loop in which its branch lost a race.
            run.turns.forget(key)
            if run.is_going_on:
                self.give_up(key, op)
            raise
        finally:
            run.journal.leave(key)
            del waiter  # a Suspend in it refers to this frame, which would be a cycle
        if resolved.is_finished:
            if resolved.is_away:
                await fetch(run, key, resolved)
            await run.turns.take(key)
        return resolved

    def give_up(self, key: str, op: Operation) -> None:
        """Drop an operation of a branch that lost a race, or that user code has cancelled, where the store knows it too."""
        run = self.run
        if run.journal.withdraw(key):
            run.journal.give_up(key, op)
        else:
            # Another process may have stored its outcome, which stays.
            run.spawn(run.owned.drop(key, op.dropped().pack()))

    async def look_back(self, call: Call, op: Operation, plan: WaitPlan, *, since_ms: int) -> bool:
        run, key = self.run, call.key
        if not run.assignment.may_execute(key):
            return False  # the run's own process looks back
        run.tree.enter()
        try:
            wait = ParkedOp(key, op.pack())
            found = await run.ask(
                store_or_find(
                    run.owned, wait, plan, since_ms=since_ms, had=run.input.had, run_event=run.input.event_obj
                )
            )
            if found is Verdict.PARKED:
                return False
            if isinstance(found, Verdict):
                run.obey(found)
                raise Suspend
            op.state, op.data, op.due, op.ended = DONE, found.text, None, self.now_ms()
            # A crash in between does no harm: the replay finds the same event.
            await run.ask(run.owned.note_resumed(key, found.uid))
            await self.commit(key, op)
            return True
        except asyncio.CancelledError:  # the branch lost a race
            if run.is_going_on and not op.is_finished:
                self.give_up(key, op)
            raise
        finally:
            run.tree.leave()

    def cancel_losers(self, tasks: Sequence[asyncio.Future[Any]]) -> None:
        self.run.races.cancel_losers(tasks)

    # --- slots for parallel steps ---

    async def find_slot(self, call: Call, op: Operation) -> Place:
        """Get a slot for a parallel step, or the operation that another process has taken. Rule S4.4."""
        run, key = self.run, call.key
        while True:
            try:
                place = await run.ask(run.offers.find_slot(key, op, self.on_offer))
            except BaseException as error:
                run.turns.forget(key)
                was_offered = run.offers.forget(key)
                if run.is_going_on and isinstance(error, asyncio.CancelledError):
                    if was_offered:
                        # Another process may have taken it, even if it was to be taken back just now.
                        self.give_up(key, op)
                    else:
                        run.journal.give_up(key, op)
                raise
            op = place.op
            if place.slot is not None:
                return place
            if op.state == TAKEN:
                run.parking.was_told = True
                op = await self.wait(call, op, is_stored=True)
            elif op.is_finished:
                if op.is_away:
                    await fetch(run, key, op)
                await run.turns.take(key)
            if op.is_finished:
                return Place(op, None)

    def on_offer(self, offers: Sequence[Offer]) -> None:
        """Offer steps to other processes: they have waited long enough for a slot here."""
        run = self.run
        if run.is_going_on:
            for key, op, waiter in offers:
                run.journal.park(key, waiter)
                run.journal.store(key, op)
                run.store_soon()
        # The run may have been stuck before, when there was no operation yet to suspend it with.
        run.tree.look_again()

    # --- what the worker process does for a tool ---

    def now_ms(self) -> int:
        return self.run.host.clock.now_ms()

    def derive_uid(self, source: str, at_ms: int) -> str:
        return self.run.host.registry.derive_uid(source, at_ms)

    async def find_manifest(self, function_id: str) -> bytes | None:
        run = self.run
        run.step_begins()
        try:
            return await run.ask(run.host.registry.manifest(function_id))
        finally:
            run.slots.end()

    async def publish(self, events: Sequence[bytes]) -> None:
        await self.run.host.publish_events(events)

    async def send(self, events: Sequence[Event], send: AsyncSend) -> list[str]:
        around = self.run.around
        if around is None or not around.hooks.wrap_send:
            return await send(events)
        return await asend_through(around.hooks.wrap_send, events, send)

    async def received(self, event: ReceivedEvent) -> ReceivedEvent:
        try:
            decode_received(self.codecs, event)
        except DecodeError as error:
            await self.decode_failed(error)
        return event if self.run.around is None else await self.run.around.received(event)

    def reporter(self) -> Callable[[bytes], None]:
        return ProgressReports(self.run.owned, self.run.host.loop).report

    def block_on(self, work: Coroutine[Any, Any, R]) -> R:
        assert self.run.threads is not None, "only a `def` handler has threads that may block"
        return self.run.threads.block_on(work)

    async def start_threads(self, branches: Sequence[Callable[[], Any]]) -> list[asyncio.Future[Any]]:
        assert self.run.threads is not None, "only a `def` handler has threads"
        return await self.run.threads.start_each(branches)
