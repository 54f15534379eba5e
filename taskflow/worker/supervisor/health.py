"""What a worker says about its health: facts of progress, not of being alive. Rule S9.9."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from taskflow.worker.supervisor.seats import Child, ChildState

logger = logging.getLogger("taskflow.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildHealth:
    """One child; ages in seconds, None when the thing has not happened yet."""

    child_id: str
    pid: int
    state: str  # "starting", "running" or "draining"
    uptime_s: float
    loop_age_s: float | None  # since its event loop last turned
    poll_age_s: float | None  # since it last asked for work and got an answer
    commit_age_s: float | None  # since its last commit


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHealth:
    """One worker: its supervisor and all children."""

    worker_id: str
    state: str  # "starting", "running" or "stopping"
    heartbeat_age_s: (
        float | None
    )  # since the last one that the store confirmed; over `lease_s`, no step starts
    store_error: str | None  # why the store can't be reached now
    pending_hand_backs: int
    deaths: int  # children that died by themselves since the start
    children: tuple[ChildHealth, ...]


def child_health(child: Child, *, now_s: float) -> ChildHealth:
    progress = child.process.progress
    return ChildHealth(
        child_id=child.child_id,
        pid=child.process.pid,
        state=child.state.value,
        uptime_s=now_s - child.started_s,
        loop_age_s=progress.loop_age_s,
        poll_age_s=progress.poll_age_s,
        commit_age_s=progress.commit_age_s,
    )


def report_if_stuck(child: Child, *, limit_s: float, now_s: float) -> None:
    """Log once when a child does not become ready, or its event loop stands still for `limit_s`.

    Only that: it may be working, and what it does is the user's business.
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
