"""Reads the functions that workers have registered, and the code bases that have them. Rule S2.7."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from taskflow.errors import ConfigError
from taskflow.function import FunctionSpec, read_spec
from taskflow.routing.known import find_clashes
from taskflow.store.registry import LiveCodeBase
from taskflow.store.store import Store
from taskflow.values.record import record


@record
class RegisteredFunction:
    """A function that counts; `versions` are the versions of the code bases that have it, the oldest first."""

    spec: FunctionSpec
    versions: tuple[str, ...]
    paused_ms: int | None  # since when it is paused


@record
class Registered:
    """All registered functions, by id. `problems` are texts about registrations that can't be read."""

    functions: Sequence[RegisteredFunction]
    code_bases: Sequence[LiveCodeBase]
    problems: Sequence[str]


async def find_registered(store: Store) -> Registered:
    """The functions of all apps. A registration of another version of taskflow that can't be read is reported as a problem."""
    apps = await store.registry.app_ids()
    manifests, bases, paused = await asyncio.gather(
        asyncio.gather(*[store.registry.manifests(app_id) for app_id in apps]),
        asyncio.gather(*[store.registry.code_bases(app_id) for app_id in apps]),
        store.steering.paused(),
    )
    functions, problems = [], []
    for app_id, found, code_bases in zip(apps, manifests, bases, strict=True):
        for slug, manifest in found.items():
            try:
                spec = read_spec(manifest)
            except ConfigError as error:
                problems.append(f"a function of {app_id} is left out: {error}")
                continue
            versions = tuple(each.version for each in code_bases if slug in each.manifests)
            functions.append(RegisteredFunction(spec, versions, paused.get(spec.id)))
        problems += find_clashes(code_bases)
    return Registered(
        sorted(functions, key=lambda each: each.spec.id),
        [each for found in bases for each in found],
        problems,
    )
