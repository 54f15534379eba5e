"""Leadership among the beats: one of them leads for a term, with a fence. Rule S8.1."""

from __future__ import annotations

import logging
import os

from taskflow.store.duties import Duties, Fence

logger = logging.getLogger("taskflow.beat")

TERM_MS = 8_000  # so that another beat leads within 10 s of the leader's death
RENEW_MS = 4_000


class Deposed(Exception):
    """This beat leads no more: the store has another fence, or none. It must not finish what it began as the leader."""


class Leadership:
    """Takes and keeps the lead. Call `hold` at least every 1.5 s, and do a leader's duties only while it returns a fence."""

    def __init__(self, duties: Duties) -> None:
        self.duties = duties
        self.beat_id = f"{os.uname().nodename}-{os.getpid()}-{os.urandom(4).hex()}"
        self.fence: Fence | None = None
        self.renew_at_ms = 0

    async def hold(self, now_ms: int) -> Fence | None:
        """Become or stay the leader; return the fence, or None while another beat leads."""
        # A beat that stands by asks the store at every call, to notice at once that a term has ended.
        if self.fence is not None and now_ms < self.renew_at_ms:
            return self.fence
        fence = await self.duties.lead(self.beat_id, now_ms=now_ms, term_ms=TERM_MS)
        self.renew_at_ms = now_ms + RENEW_MS
        if (fence is None) != (self.fence is None):
            logger.info("this beat %s", "leads" if fence else "stands by")
        self.fence = fence
        return fence

    def depose(self) -> None:
        """Forget the fence, as the store has another one; the next `hold` asks the store."""
        self.fence = None
        self.renew_at_ms = 0

    async def resign(self) -> None:
        if self.fence is not None:
            self.fence = None
            await self.duties.abdicate(self.beat_id)
