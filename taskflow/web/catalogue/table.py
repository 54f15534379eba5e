"""The table of all operations."""

from __future__ import annotations

from collections.abc import Mapping

from taskflow.web.catalogue import audit, bulk, events, functions, keys, overview, runs
from taskflow.web.catalogue.operation import Operation

OPERATIONS: Mapping[str, Operation] = {
    each.name: each
    for each in (
        *overview.OPERATIONS,
        *runs.OPERATIONS,
        *events.OPERATIONS,
        *functions.OPERATIONS,
        *bulk.OPERATIONS,
        *audit.OPERATIONS,
        *keys.OPERATIONS,
    )
}
"""All operations by name."""
