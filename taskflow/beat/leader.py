"""The lead among the beats: a term with a fence. Rule S8.1."""

from __future__ import annotations

import logging
import os

from taskflow.store.duties import Duties, Fence

logger = logging.getLogger("taskflow.beat")

TERM_MS = 8_000  # the lead passes within 10 s of its holder's death
RENEW_MS = 4_000


class Deposed(Exception):
    """The store knows another fence, or none: what this beat began as the leader it may not finish."""


class Leadership:
    """Call `hold` at least every 1.5 s; do a leader's duties only while it gives a fence."""

    def __init__(self, duties: Duties) -> None:
        self.duties = duties
        self.beat_id = f"{os.uname().nodename}-{os.getpid()}-{os.urandom(4).hex()}"
        self.fence: Fence | None = None
        self.renew_at_ms = 0

    async def hold(self, now_ms: int) -> Fence | None:
        """Become or stay the leader; the fence, or None while another beat leads."""
        # Who stands by asks every time: a term that has ended must not wait for the next renewal.
        if self.fence is not None and now_ms < self.renew_at_ms:
            return self.fence
        fence = await self.duties.lead(self.beat_id, now_ms=now_ms, term_ms=TERM_MS)
        self.renew_at_ms = now_ms + RENEW_MS
        if (fence is None) != (self.fence is None):
            logger.info("this beat %s", "leads" if fence else "stands by")
        self.fence = fence
        return fence

    def depose(self) -> None:
        """The fence is not the store's any more; `hold` asks at once."""
        self.fence = None
        self.renew_at_ms = 0

    async def resign(self) -> None:
        if self.fence is not None:
            self.fence = None
            await self.duties.abdicate(self.beat_id)
