"""What a test notes of the executions of its steps."""

from __future__ import annotations

from taskflow.run import Run
from taskflow.store.operation import Operation
from taskflow.testing import Harness


class Journal:
    """Which steps were executed; each execution returns another number, so that a memo can be told from a repeat."""

    def __init__(self) -> None:
        self.executed: list[str] = []

    def do(self, name: str) -> int:
        self.executed.append(name)
        return len(self.executed)

    async def ado(self, name: str) -> int:
        return self.do(name)


async def memos(harness: Harness, run: Run) -> dict[str, Operation]:
    """The operations that are stored of a run."""
    stored = await harness.store.history.run(run.id)
    assert stored is not None
    return {key: Operation.unpack(packed) for key, packed in stored.steps.items()}
