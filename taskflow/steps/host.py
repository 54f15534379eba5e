"""StepHost: the methods of the engine that the step tools call. `StepCalls` implements it; tools know no more of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn, Protocol, TypeVar

from taskflow.codecs.codecs import Codecs
from taskflow.config import Config
from taskflow.errors import DecodeError
from taskflow.event import Event, ReceivedEvent, WireEvent
from taskflow.expressions.matching import WaitPlan
from taskflow.function import Function
from taskflow.middleware.sending import AsyncSend
from taskflow.steps.call import Call, Done, StepCall
from taskflow.store.claims import InvokedRun
from taskflow.store.operation import Operation

R = TypeVar("R")


class Given(Protocol):
    """The events that a run was given."""

    event: ReceivedEvent[Any]
    """The event that started the run; the first one of a batch."""
    event_obj: WireEvent
    """The same event as a wire object, for expressions."""

    @property
    def had(self) -> set[str]:
        """The uids of the events that the handler has got; a wait that looks back ignores them."""
        ...


class RunFacts(Protocol):
    """The facts of its run that a tool may use."""

    run_id: str
    function_id: str
    function: Function[Any, Any]

    @property
    def input(self) -> Given: ...


class StepHost(Protocol):
    """The engine as the tools of one handler see it. Its coroutines run on the worker's loop, inside the run's task tree.

    All of them raise Suspend when the run ends here, or goes on elsewhere.
    """

    @property
    def run(self) -> RunFacts: ...

    @property
    def config(self) -> Config: ...

    @property
    def codecs(self) -> Codecs: ...

    def now_ms(self) -> int: ...

    def derive_uid(self, source: str, at_ms: int) -> str:
        """The uid that stands for `source` at `at_ms` (ms since epoch), the same in each attempt. Rule S1.7."""
        ...

    # --- one call of a tool ---

    async def begin(self, step_id: str, kind: str) -> Call:
        """Begin a call of a tool; return its key, its place, and what is known of it. `kind` is that of its operation.

        What is known is an operation of that kind, which was not dropped. Raises NestedStepError in a step (S3.9).
        """
        ...

    async def recall(self, call: Call) -> Operation:
        """Wait until it is this outcome's turn, and return the operation, which is finished already. Rule S4.5."""
        ...

    async def decode_failed(self, error: DecodeError) -> NoReturn:
        """Have the run wait or fail, as it needs a value that can't be decoded here (S12.2). Raises Suspend."""
        ...

    def check_outcome(self, call: Call, data: bytes | str) -> None:
        """Raise LimitExceeded when an outcome from outside is too large, or the run holds too much. Rule S3.10."""
        ...

    async def execute(self, step: StepCall, op: Operation) -> Done | Operation:
        """Call the step's function as soon as there is a slot, and store the outcome.

        Returns Done, or the operation: in state RETRY with the time of the next attempt, or as another process left it. Raises
        StepError when no attempt is left.
        """
        ...

    async def wait(
        self, call: Call, op: Operation, *, is_stored: bool = False, child: InvokedRun | None = None
    ) -> Operation:
        """Wait until the operation is resolved: by time, by an event, or by the end of another run (`child`, which is started)."""
        ...

    async def keep(self, call: Call, op: Operation) -> None:
        """Store an operation that needs no wait."""
        ...

    async def look_back(self, call: Call, op: Operation, plan: WaitPlan, *, since_ms: int) -> bool:
        """End the wait `op` with the oldest event since `since_ms` that meets it and that the run has not had. Rule S3.3.

        Returns False if there is none; then the wait is stored.
        """
        ...

    def cancel_losers(self, tasks: Sequence[asyncio.Future[Any]]) -> None:
        """A race is decided: branches that wait are cancelled, steps that execute end and are ignored. Rule S3.7."""
        ...

    # --- what the worker process does for a tool ---

    async def find_manifest(self, function_id: str) -> bytes | None:
        """The manifest of a function that a worker has registered, or None."""
        ...

    async def publish(self, events: Sequence[bytes]) -> None:
        """Send events to the broker. Raises BrokerUnavailable."""
        ...

    async def send(self, events: Sequence[Event], send: AsyncSend) -> list[str]:
        """Call `send` with the events through the `wrap_send` of the function's middleware; return the ids. Rule S11.4."""
        ...

    async def received(self, event: ReceivedEvent) -> ReceivedEvent:
        """The event decrypted (S12.2), as the function's middleware lets the handler see it (`transform_event`). Rule S11.4."""
        ...

    def reporter(self) -> Callable[[bytes], None]:
        """What takes reports (JSON) of the run's progress, in any thread (S15.2)."""
        ...

    # --- threads of a `def` handler ---

    def block_on(self, work: Coroutine[Any, Any, R]) -> R:
        """Wait, on a handler's thread, for the result of a coroutine on the loop."""
        ...

    async def start_threads(self, branches: Sequence[Callable[[], Any]]) -> list[asyncio.Future[Any]]:
        """Start a thread for each branch."""
        ...
