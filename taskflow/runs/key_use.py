"""Finds out which keys the values of runs are encrypted with, so that an old key can be dropped. Rule S12.2.

It needs no key: a stored value names the one that encrypted it.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from taskflow.run import RunStatus
from taskflow.runs.pages import PAGE, RunPages
from taskflow.runs.selection import LIVE
from taskflow.store.fields import number, text
from taskflow.store.store import Store

# In the texts of errors, JSON stands in JSON, with its quotation marks escaped.
NAMED = re.compile(rb'__KEY__\\?":\\?"([0-9a-f]{8})\\?"')
ENCRYPTED = re.compile(rb'__ENCRYPTED__\\?":')
FIELDS = ("event", "output", "error", "last_error", "earlier_errors", "status", "created")
UNNAMED = ""


@dataclass(slots=True)
class KeyUse:
    """How much is encrypted with one key; `key_id` is empty for values that don't name their key, as those of Inngest's SDKs."""

    key_id: str
    values: int = 0
    runs: int = 0
    live_runs: int = 0
    newest_ms: int = 0  # when the newest of the runs was made

    def to_json(self) -> dict[str, Any]:
        return {
            "key": self.key_id or None, "values": self.values, "runs": self.runs, "live_runs": self.live_runs,
            "newest_ms": self.newest_ms,
        }  # fmt: skip


@dataclass(slots=True)
class KeyReport:
    """The use of each key in the runs that were looked at: all live ones, and the newest, each up to a limit."""

    keys: dict[str, KeyUse] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    has_more: bool = False

    def add(self, run_id: str, fields: dict[str, bytes], steps: dict[str, bytes]) -> None:
        self.seen.add(run_id)
        stored = [*(fields[name] for name in FIELDS[:5] if name in fields), *steps.values()]
        counts = count_keys(stored)
        is_live = not RunStatus(text(fields, "status")).is_final
        for key_id, values in counts.items():
            use = self.keys.setdefault(key_id, KeyUse(key_id))
            use.values += values
            use.runs += 1
            use.live_runs += is_live
            use.newest_ms = max(use.newest_ms, number(fields, "created") or 0)


def count_keys(stored: list[bytes]) -> Counter[str]:
    """How many values in these texts each key has encrypted."""
    counts: Counter[str] = Counter()
    for each in stored:
        named = NAMED.findall(each)
        counts.update(key_id.decode() for key_id in named)
        unnamed = len(ENCRYPTED.findall(each)) - len(named)
        if unnamed > 0:
            counts[UNNAMED] += unnamed
    return counts


async def find_key_use(store: Store, functions: list[str], *, limit: int) -> KeyReport:
    """Look at the live runs of these functions, and at their newest runs, at most `limit` of each; a page at a time."""
    report = KeyReport()
    for statuses in (LIVE, ()):
        pages, looked_at = RunPages(store, functions, statuses=statuses), 0
        while run_ids := await pages.next(min(PAGE, limit + 1 - looked_at)):
            if looked_at + len(run_ids) > limit:
                report.has_more = True
                break
            looked_at += len(run_ids)
            await look_at(store, report, [run_id for run_id in run_ids if run_id not in report.seen])
    return report


async def look_at(store: Store, report: KeyReport, run_ids: list[str]) -> None:
    rows, steps = await asyncio.gather(
        store.history.many(run_ids, FIELDS), asyncio.gather(*map(store.history.steps, run_ids))
    )
    for run_id, fields, operations in zip(run_ids, rows, steps, strict=True):
        # Without a status it was removed meanwhile.
        if "status" in fields:
            report.add(run_id, fields, operations)
