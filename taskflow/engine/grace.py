"""Grace: how long the code of a cancelled run may take to end, and what is done with code that takes longer. Rule S6.2."""

from __future__ import annotations

from taskflow.engine.execution import Execution
from taskflow.engine.lifecycle import Ending, Phase


def is_over_due(run: Execution) -> bool:
    """Whether the run was cancelled, and still waits for its executing steps or its body."""
    return run.lifecycle.phase is Phase.STOPPING and run.lifecycle.ending is Ending.CANCELLED


async def cut_off(run: Execution) -> None:
    """End a cancelled run though its code goes on: that is cancelled where it awaits, and a thread of it is abandoned.

    No outcome of that code counts: the claim ends with the run. A thread goes on until its process is replaced.
    """
    run.was_refused, run.is_let_go_on = True, False
    is_abandoned = run.threads is not None and run.threads.abandon()
    awaited = {call for call in run.host.threads.at_work if not call.done()}
    await run.leave()
    if is_abandoned or any(call.cancelled() for call in awaited.intersection(run.host.threads.at_work)):
        run.host.abandon_thread(f"code of {run.function_id} blocks a thread, though its run was cancelled")
