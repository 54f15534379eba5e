"""Runs a beat as a process: `taskflow beat`, and the one inside `taskflow worker -B`."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

from taskflow.beat.health import BeatHealth
from taskflow.beat.service import Beat
from taskflow.config import Config

STOP_TIMEOUT_S = 2.0  # time for the turn to end, and for giving the lead away
TICK_S = 1.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

logger = logging.getLogger("taskflow.beat")


def run_beat(
    config: Config,
    *,
    on_ready: Callable[[], None],
    on_turn: Callable[[], None],
    health: BeatHealth,
    has_metrics: bool = False,
) -> int:
    """Do the duties of a beat until SIGTERM, SIGINT or SIGQUIT; return the exit code.

    `on_ready` is called once beat is connected, `on_turn` once a second while its loop turns (S9.9); `health` has been told then
    how beat does (S13.3). With metrics the leading beat reads the gauges of the store (S13.1).
    Raises StoreUnavailable when the store can't be reached at the start; later, beat waits for the store (S9.5).
    """
    with asyncio.Runner() as runner:
        return runner.run(serve(Beat(config, has_metrics=has_metrics), on_ready, on_turn, health))


async def serve(
    beat: Beat, on_ready: Callable[[], None], on_turn: Callable[[], None], health: BeatHealth
) -> int:
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # a worker's child leaves Ctrl-C to the supervisor
            loop.add_signal_handler(number, beat.stop)
    await beat.start()
    on_ready()
    duties = asyncio.create_task(beat.serve())
    stopping = asyncio.create_task(beat.stopping.wait())
    while not stopping.done() and not duties.done():
        health.note(beat)
        on_turn()
        await asyncio.wait([stopping, duties], timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
    health.note(beat)
    stopping.cancel()
    await asyncio.wait([duties], timeout=STOP_TIMEOUT_S)
    if not duties.done():  # the turn waits for a store that is away
        logger.warning("the store gave no answer; the lead is not given away, its term runs out")
        duties.cancel()
        await asyncio.wait([duties], timeout=STOP_TIMEOUT_S)
        return 0
    duties.result()
    return 0
