"""Stalls: finds the children whose event loop stands still for so long that only another process can go on. Rule S9.9."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from taskflow.worker.supervisor.children import Child, ChildState, Seat

MAX_TURN_S = 5.0
"""The most that one turn of the supervisor adds to a stall: in a longer one it was paused, and so were the children."""

logger = logging.getLogger("taskflow.worker")


class Stalls:
    """Measures how long each child's loop has stood still while the supervisor turned.

    Neither a suspend of the machine nor a pause of the whole worker counts: after it, each loop has some time to turn.
    """

    def __init__(self, *, limit_s: float) -> None:
        """With a limit of 0 no stall is too long."""
        self.limit_s = limit_s
        self.looked_s: float | None = None

    def look(self, children: Mapping[Child, Seat], *, now_s: float) -> list[Child]:
        """Look at all children; return those to kill. Call it once in each turn, before their messages are read."""
        elapsed_s = 0.0 if self.looked_s is None else min(now_s - self.looked_s, MAX_TURN_S)
        self.looked_s = now_s
        return [child for child, seat in children.items() if self.is_over(child, seat, elapsed_s)]

    def is_over(self, child: Child, seat: Seat, elapsed_s: float) -> bool:
        turned_ns = child.process.progress.turned_ns
        if turned_ns != child.turned_ns:
            child.turned_ns, child.stalled_s, child.blocked_by = turned_ns, 0.0, ()
            return False
        child.stalled_s += elapsed_s
        executes = seat.helper is None and child.state is ChildState.RUNNING and not child.was_killed
        if not (executes and 0 < self.limit_s <= child.stalled_s):
            return False
        child.is_stuck = True
        child.end_reason = f"its event loop stood still for {self.limit_s:g} s"
        culprit = f"code of run {child.blocked_by[0]}" if child.blocked_by else "code of no known run"
        logger.error("%s: %s, by %s; it is replaced", child, child.end_reason, culprit)
        return True
