"""Calls a task whose code is not here, by what its workers have registered. Rule S15.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskflow.errors import ConfigError
from taskflow.function import FunctionSpec
from taskflow.middleware.hooks import Hooks
from taskflow.parameters import Parameters
from taskflow.run import Run
from taskflow.tasks.call_options import PLAIN
from taskflow.tasks.calls import Maker, encode_call, start_calls

if TYPE_CHECKING:
    from taskflow.connections import Connections


async def call_by_name(
    link: Connections, hooks: Hooks, spec: FunctionSpec, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Run[Any]:
    """Make the run of a call. Raises ConfigError for a function that is no task, TypeError for arguments that do not fit."""
    if spec.parameters is None:
        raise ConfigError(f"{spec.id!r} is a function and no task: app.invoke({spec.id!r}, {{...}})")
    given = Parameters(spec.parameters).bind(args, kwargs, what=spec.id)
    now_ms = link.clock.now_ms()
    call = encode_call(
        spec,
        given,
        PLAIN,
        Maker.here(hooks),
        codecs=link.codecs,
        now_ms=now_ms,
        max_bytes=link.config.max_event_bytes,
    )
    (run_id,) = await start_calls(link, spec, PLAIN, (call,), now_ms=now_ms)
    return Run(run_id, link)
