"""Compares an object store with the runs: blobs that no run needs, and blobs that are missing. Rule S12.4."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from taskflow.codecs.blobs import Blobs, FoundBlob
from taskflow.codecs.envelope import BLOB, read_envelope
from taskflow.runs.pages import PAGE, RunPages
from taskflow.store.operation import Operation
from taskflow.store.store import Store
from taskflow.values.stored import begins_reference

OWNERS = 200  # in one round trip


@dataclass(slots=True)
class BlobReport:
    """All blobs of a deployment, and what does not fit."""

    blobs: int = 0
    bytes: int = 0
    orphans: list[FoundBlob] = field(default_factory=list)
    # (run, what) of references to blobs that are not there
    missing: list[tuple[str, str]] = field(default_factory=list)
    runs: int = 0  # how many runs were looked at for these

    def to_json(self) -> dict[str, Any]:
        return {
            "blobs": self.blobs, "bytes": self.bytes, "orphans": [each.path for each in self.orphans],
            "orphan_bytes": sum(each.size for each in self.orphans), "runs": self.runs,
            "missing": [{"run_id": run_id, "blob": path} for run_id, path in self.missing],
        }  # fmt: skip


async def check_blobs(store: Store, blobs: Blobs, functions: list[str], *, limit: int) -> BlobReport:
    """Look at all blobs, and for missing ones at the newest `limit` runs. Raises BlobUnavailable.

    A blob is an orphan when its run is gone, and each run that needs it too. One that beat is still to remove counts too.
    """
    report = BlobReport()
    paths: set[str] = set()
    by_owner: dict[str, list[FoundBlob]] = {}
    async for blob in blobs.found():
        report.blobs += 1
        report.bytes += blob.size
        paths.add(blob.path)
        by_owner.setdefault(blob.owner, []).append(blob)
    owners = list(by_owner)
    for first in range(0, len(owners), OWNERS):
        part = owners[first : first + OWNERS]
        for owner, is_needed in zip(part, await store.blob_owners.are_needed(part), strict=True):
            report.orphans += [] if is_needed else by_owner[owner]
    pages = RunPages(store, functions)
    while report.runs < limit and (run_ids := await pages.next(min(PAGE, limit - report.runs))):
        report.runs += len(run_ids)
        for run_id, stored in zip(
            run_ids, await asyncio.gather(*[stored_of(store, each) for each in run_ids]), strict=True
        ):
            for path in paths_in(stored, blobs):
                if path not in paths:
                    report.missing.append((run_id, path))
    return report


async def stored_of(store: Store, run_id: str) -> list[bytes | str]:
    """What is stored of a run's result and of the outcomes of its steps."""
    (output,), steps = await asyncio.gather(
        store.history.fields(run_id, "output"), store.history.steps(run_id)
    )
    outcomes = [Operation.unpack(packed).data for packed in steps.values()]
    return [each for each in (output, *outcomes) if each is not None]


def paths_in(stored: list[bytes | str], blobs: Blobs) -> list[str]:
    references = [read_envelope(each) for each in stored if begins_reference(each)]
    return [blobs.path(each[BLOB], each["sha256"]) for each in references if each is not None]
