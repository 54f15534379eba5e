"""Reports children that make no progress. Rule S9.9."""

from __future__ import annotations

import logging

from taskflow.worker.supervisor.children import Child, ChildState

logger = logging.getLogger("taskflow.worker")


def report_if_stuck(child: Child, *, limit_s: float, now_s: float) -> None:
    """Log once when a child does not become ready, or its event loop stands still for `limit_s`.

    It only logs and does not end the child, which may be working: only the user can tell.
    """
    is_starting = child.state is ChildState.STARTING
    age_s = now_s - child.started_s if is_starting else child.process.progress.loop_age_s
    is_stuck = age_s is not None and age_s >= limit_s
    if is_stuck is child.is_reported:
        return
    child.is_reported = is_stuck
    if not is_stuck:
        logger.info("%s goes on", child)
    elif is_starting:
        logger.warning("%s is not ready after %g s: does the import of the app block?", child, limit_s)
    else:
        logger.warning(
            "%s: event loop blocked for %g s: a blocking call in an async handler?", child, limit_s
        )
