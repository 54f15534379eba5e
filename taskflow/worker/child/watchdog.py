"""Watchdog: logs the stack of code that blocks a child's event loop, while it blocks. Rule S9.9."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from taskflow.worker.lease import Progress

PACKAGE = str(Path(__file__).parents[2])
RUNS_THE_LOOP = str(Path(__file__).with_name("entry.py"))
MAX_FRAMES = 12

logger = logging.getLogger("taskflow.worker")


class Watchdog:
    """A thread that watches the loop; it logs once when the loop has stood still for `limit_s`, and when the loop goes on.

    The loop has to call `Progress.loop_turned` a few times within the limit. The watchdog can't see code that never lets another
    thread run: the supervisor then reports that, without a stack.
    """

    def __init__(self, progress: Progress, *, limit_s: float, on_blocked: Callable[[], None]) -> None:
        """`on_blocked` is called in the watchdog's thread, now and then while the loop stands still."""
        self.progress = progress
        self.limit_s = limit_s
        self.on_blocked = on_blocked
        self.blocked_since_s: float | None = None  # monotonic

    def start(self) -> None:
        """Watch the thread that calls this, from its loop's first turn on."""
        loop_thread = threading.get_ident()
        threading.Thread(
            target=self.watch, args=(loop_thread,), name="taskflow-watchdog", daemon=True
        ).start()

    def watch(self, loop_thread: int) -> None:
        while True:
            age_s = self.progress.loop_age_s or 0.0
            if age_s < self.limit_s:
                self.note_turn()
                time.sleep(self.limit_s - age_s)
                continue
            if self.blocked_since_s is None:
                self.blocked_since_s = time.monotonic() - age_s
                stack = describe_stack(sys._current_frames().get(loop_thread))
                logger.warning(
                    "event loop blocked for %.3g s: a blocking call in an async handler? It stands here:\n%s", age_s, stack
                )  # fmt: skip
            self.on_blocked()
            time.sleep(self.limit_s / 4)

    def note_turn(self) -> None:
        if self.blocked_since_s is not None:
            blocked_s = time.monotonic() - self.blocked_since_s
            logger.warning("the event loop goes on, after some %.3g s", blocked_s)
            self.blocked_since_s = None


def describe_stack(frame: FrameType | None) -> str:
    """The innermost frames, without those of the program that runs the loop, of the loop, and of the engine on the way there."""
    if frame is None:
        return "  (its thread has ended)"
    stack = traceback.extract_stack(frame)
    begins = max((place for place, each in enumerate(stack) if each.filename == RUNS_THE_LOOP), default=-1)
    frames = [each for each in stack[begins + 1 :] if not each.filename.startswith(PACKAGE)]
    own = [each for each in frames if "/asyncio/" not in each.filename and "importlib" not in each.filename]
    return "".join(traceback.format_list(own[-MAX_FRAMES:])).rstrip()
