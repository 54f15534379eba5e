"""Trouble: logs repeated failures of one activity once for each cause, and once more when it works again."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

VARYING = re.compile(r"\d+(\.\d+)?")


class Trouble:
    """The failures of one loop. Call `note` for each failure and `over` for each success.

    trouble = Trouble(logger, "a turn of beat")
    trouble.note(error)   # "a turn of beat fails: READONLY ...; it is tried again until it works, and this is not said again"
    trouble.over()        # "a turn of beat works again, after 12.3 s and 10 failures"
    """

    def __init__(
        self, logger: logging.Logger, what: str, *, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._what = what
        self._now_s = now_s
        self._began_s: float | None = None
        self.failures = 0  # since it last worked
        self.latest = ""  # the latest failure in words
        self._told: set[str] = set()

    def note(
        self, error: BaseException, *, level: int = logging.WARNING, with_traceback: bool = False
    ) -> None:
        """Log the failure if its cause is new. Errors that differ only in figures have one cause."""
        if self._began_s is None:
            self._began_s = self._now_s()
        self.failures += 1
        self.latest = str(error) or type(error).__name__
        cause = VARYING.sub("#", f"{type(error).__name__}: {error}")
        if cause in self._told:
            return
        self._told.add(cause)
        self._logger.log(
            level,
            "%s fails: %s; it is tried again until it works, and this is not said again",
            self._what,
            self.latest,
            exc_info=error if with_traceback else None,
        )

    def over(self) -> None:
        """Log, after failures, that it works again."""
        if self._began_s is None:
            return
        self._logger.warning(
            "%s works again, after %.1f s and %d %s",
            self._what,
            self._now_s() - self._began_s,
            self.failures,
            "failure" if self.failures == 1 else "failures",
        )
        self._began_s, self.failures = None, 0
        self._told.clear()
