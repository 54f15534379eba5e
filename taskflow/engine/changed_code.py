"""What a run does when the store knows something else of a call than the code now asks for. Rules S3.7, S4.5.

The code has changed under a live run, or a race is not decided as before. The call then begins anew, as if it were the first.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from taskflow.errors import Suspend
from taskflow.steps.call import Call
from taskflow.store.claims import Verdict
from taskflow.store.operation import TOOLS, Operation

if TYPE_CHECKING:
    from taskflow.engine.execution import Execution

logger = logging.getLogger("taskflow.engine")


async def begin_anew(run: Execution, call: Call, known: Operation, kind: str) -> None:
    """Have the store forget `known`, which is of another kind than `kind`, or was dropped; the call then has no past.

    What was pending is taken back in the same script: no timer, event, signal or other run can resolve the key for the old code.
    """
    if run.taken is not None:
        await run.tree.parked()  # rest for ever: the run's own process does this
    if known.kind == kind:
        await run.races.lose_again()
    else:
        run.turns.forget(call.key)
    run.journal.forget(call.key)
    call.known = None
    run.tree.enter()
    try:
        verdict = await run.ask(run.owned.forget(call.key, kind))
    finally:
        run.tree.leave()
    if verdict is not Verdict.OK:
        run.obey(verdict)
        raise Suspend
    if known.kind != kind:
        logger.warning(
            "%s: step %r was a %s when run %s came to it before, and is a %s now. What is stored of it does not count, and the "
            "step executes anew.",
            run.function_id, call.id, TOOLS[known.kind], run.run_id, TOOLS[kind],
        )  # fmt: skip


async def warn_of_order(run: Execution, text: str) -> None:
    """Log that the steps come in another order than before, once a run."""
    if await run.owned.mark_warned():
        logger.warning("%s: %s (run %s)", run.function_id, text, run.run_id)
