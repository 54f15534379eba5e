"""What the step tools ask of the engine. The engine's `HandlerCall` implements it; the tools know nothing else of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from taskflow.config import Config
from taskflow.event import ReceivedEvent, WireEvent
from taskflow.expressions.matching import WaitPlan
from taskflow.steps.call import Call, Done, StepCall
from taskflow.store.claims import InvokedRun
from taskflow.store.operation import Operation

R = TypeVar("R")


class RunFacts(Protocol):
    """What a tool may know of its run."""

    run_id: str
    function_id: str
    event: ReceivedEvent
    """The event that started the run; the first one of a batch."""
    event_obj: WireEvent
    """The same as it came from the wire, for expressions."""

    @property
    def had(self) -> set[str]:
        """The uids of the events that the handler got: a wait that looks back passes over them."""
        ...


class StepHost(Protocol):
    """What the tools of one handler ask for. Its coroutines run on the worker's loop, inside the run's task tree.

    All of them raise Suspend when the run ends here, or goes on elsewhere.
    """

    @property
    def run(self) -> RunFacts: ...

    @property
    def config(self) -> Config: ...

    def now_ms(self) -> int: ...

    def derive_uid(self, source: str, at_ms: int) -> str:
        """The uid that stands for `source` at `at_ms` (ms since epoch), the same in each attempt. Rule S1.7."""
        ...

    # --- one call of a tool ---

    async def begin(self, step_id: str) -> Call:
        """A tool is called: which call is it, and what is known of it? Raises NestedStepError inside a step (S3.9)."""
        ...

    async def recall(self, call: Call) -> Operation:
        """The operation that is known to be finished, once it is the turn of its outcome. Rule S4.5."""
        ...

    def check_outcome(self, call: Call, data: bytes | str) -> None:
        """Raises LimitExceeded when an outcome that came from outside is too large, or the run holds too much. Rule S3.10."""
        ...

    async def execute(self, step: StepCall, op: Operation) -> Done | Operation:
        """Call the step's function, as soon as there is a slot, and store what comes of it.

        Done; or the operation: RETRY with the time of the next attempt, or what another process made of it. Raises StepError when
        no attempt is left.
        """
        ...

    async def wait(
        self, call: Call, op: Operation, *, is_stored: bool = False, child: InvokedRun | None = None
    ) -> Operation:
        """Wait for what something else resolves: time, an event, another run (`child` is the one to start)."""
        ...

    async def keep(self, call: Call, op: Operation) -> None:
        """Store an operation that is over at once."""
        ...

    async def look_back(self, call: Call, op: Operation, plan: WaitPlan, *, since_ms: int) -> bool:
        """End the wait `op` with the oldest event since then that meets it, and that the run has not had. Rule S3.3.

        False when there is none: the wait is stored then.
        """
        ...

    def cancel_losers(self, tasks: Sequence[asyncio.Future[Any]]) -> None:
        """A race is decided: branches that wait are cancelled, steps that execute end and are ignored. Rule S3.7."""
        ...

    # --- what the worker process does for a tool ---

    async def find_manifest(self, function_id: str) -> bytes | None:
        """What some worker has registered of a function; None when none has."""
        ...

    async def publish(self, events: Sequence[bytes]) -> None:
        """Send events to the broker. Raises BrokerUnavailable."""
        ...

    # --- threads of a `def` handler ---

    def block_on(self, work: Coroutine[Any, Any, R]) -> R:
        """Wait on a thread for work on the loop."""
        ...

    async def start_threads(self, branches: Sequence[Callable[[], Any]]) -> list[asyncio.Future[Any]]:
        """Start a thread for each branch."""
        ...
