"""Sends events through `wrap_send`, from sync and from async code. Rule S11.4."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from taskflow.event import Event
from taskflow.middleware.hooks import Hook
from taskflow.values.loops import block_on

Events = Sequence[Event]
AsyncSend = Callable[[Events], Awaitable[list[str]]]
BlockingSend = Callable[[Events], list[str]]


async def asend_through(hooks: Sequence[Hook], events: Events, send: AsyncSend) -> list[str]:
    """Send events through the hooks, the first outermost; a `def` one runs in a thread. Returns what the first returns: the ids."""
    for hook in reversed(hooks):
        send = layer(hook, send if hook.is_async else to_blocking(send))
    return await send(events)


def send_through(hooks: Sequence[Hook], events: Events, send: BlockingSend) -> list[str]:
    """The same in the present thread, if all hooks are `def`."""
    for hook in reversed(hooks):
        send = blocking_layer(hook, send)
    return send(events)


def layer(hook: Hook, send: Callable[[Events], Any]) -> AsyncSend:
    async def through(events: Events) -> list[str]:
        work = hook.method(events, send) if hook.is_async else asyncio.to_thread(hook.method, events, send)
        return checked(hook, await work)

    return through


def blocking_layer(hook: Hook, send: BlockingSend) -> BlockingSend:
    return lambda events: checked(hook, hook.method(events, send))


def to_blocking(send: AsyncSend) -> BlockingSend:
    loop = asyncio.get_running_loop()
    return lambda events: block_on(send(events), loop)


def checked(hook: Hook, ids: Any) -> list[str]:
    if not isinstance(ids, list):
        raise TypeError(f"{hook} must return the ids that send() returned, a list, got {ids!r:.80}")
    return ids
