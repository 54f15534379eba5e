"""Middleware: the class that users derive from. Rule S11.4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Named in signatures alone: an app without middleware needs nothing of it.
    from taskflow.event import Event, ReceivedEvent
    from taskflow.middleware.facts import Activation, Attempt, Outcome


class Middleware:
    """Code around user code, and code that is told what happens to a run. Override what you need. Rule S11.4.

        class Timing(Middleware):
            async def wrap_attempt(self, attempt: Attempt, call: Callable[[], Awaitable[Outcome]]) -> Outcome:
                began = time.perf_counter()
                outcome = await call()
                histogram.observe(time.perf_counter() - began)
                return outcome

        app = TaskFlow("shop", middleware=[Timing()])

    Each method may be `def` or `async def`, whatever the handler is; only `on_register` is always `def`. The methods here do
    nothing and are never called. One object serves all runs of a process: keep what belongs to one in `run.state` or
    `attempt.state`.

    `wrap_...` methods get `call`, which executes what is inside, once. In an `async def` it is awaited; a `def` method runs in a
    thread, in that of `def` user code directly inside it, and its `call()` blocks. They return an Outcome, or None for the one that
    `call` gave; what they raise is the error of the attempt. `on_...` methods run on the worker's loop, so a `def` one must not
    block; what they raise is logged, and changes nothing.

    Types: `call` is a Callable[[], Awaitable[Outcome]], in a `def` method a Callable[[], Outcome]; `send` takes a Sequence[Event]
    and gives a list[str].
    """

    def on_register(self, app: Any, function: Any) -> None:
        """A function is defined that this middleware is for. What it raises is raised by the decorator."""

    def wrap_send(self, events: Sequence[Event], send: Any) -> Any:
        """Around `send`, `asend` and `step.send_event`: give `send` these events, or others; return what it returns, the ids.

        What it raises is raised by the call; of a step it is the attempt's error.
        """

    def transform_headers(self, headers: Mapping[str, str]) -> Mapping[str, str] | None:
        """Return the headers that a call gives to its run, in place of `headers`: of `step.invoke`, `invoke` and a task's `delay`.

        Where the caller runs, on its thread, so always a plain `def`, which must not block. None leaves them as they are. The run
        inherits those of the calling run besides (S11.1). What it raises is raised by the call. Events get theirs in `wrap_send`.
        """

    def transform_event(self, event: ReceivedEvent) -> Any:
        """Return the event that the handler gets in place of `event`: its own, those of a batch, and those it waits for.

        It is called anew in each activation, so it must give the same each time. None leaves the event as it is. What it raises is
        the error of the handler's attempt.
        """

    def wrap_run(self, run: Activation, call: Any) -> Any:
        """Around the handler, once for each activation, also in a process that executes an offered step."""

    def wrap_attempt(self, attempt: Attempt, call: Any) -> Any:
        """Around each execution of user code: a step's function, and the handler (inside `wrap_run`). Never for a memo."""

    def on_run_start(self, run: Activation) -> Any:
        """The run begins: once, or again if its process went before anything of it was stored."""

    def on_resume(self, run: Activation) -> Any:
        """The run goes on in a later activation: after a sleep, a wait, a retry of its handler, a hand-back or a crash."""

    def on_suspend(self, run: Activation) -> Any:
        """The run sleeps or waits, and has left this process; the store knows."""

    def on_cancel(self, run: Activation, reason: str) -> Any:
        """The run, which was in this process, ends as cancelled. `on_run_end` follows."""

    def on_run_end(self, run: Activation, outcome: Outcome) -> Any:
        """The run has ended, and the store knows: "completed" with its result, "failed" with its error, "cancelled", "skipped"."""

    def on_step_start(self, attempt: Attempt) -> Any:
        """A step's function is about to be called."""

    def on_step_end(self, attempt: Attempt, outcome: Outcome) -> Any:
        """A step's function has ended, and its result has its JSON form; the store is told next."""

    def on_retry(self, attempt: Attempt, error: BaseException, due_ms: int) -> Any:
        """An attempt, of a step or of the handler, has failed, and another one follows at `due_ms` (ms since the epoch)."""
