"""`app.queues`: the queues of an app, for its operators. Rules S7.2, S10.4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskflow.connections import Connections
    from taskflow.runs.queues import QueueView


class Queues:
    """What is in the queues of an app, and how to pause them.

        app.queues.pause("mail")
        for queue in app.queues.list():
            print(queue.name, queue.queued, queue.running)
        app.queues.resume("mail")

    Each method has an async twin that starts with `a`, and raises StoreUnavailable.
    """

    def __init__(self, link: Callable[[], Connections]) -> None:
        """`link`: asked each time, as a test points its app at other servers."""
        self._connections = link

    def list(self) -> Sequence[QueueView]:
        """The queues by name, with how many of their runs are live. The time that it takes does not grow with the runs."""
        return self._connections().block_on(self.alist)

    async def alist(self) -> Sequence[QueueView]:
        """See `list`."""
        link = self._connections()
        return await link.control().queues(link.config.app_id)

    def pause(self, queue: str) -> None:
        """Let no run of the queue begin or go on until it is resumed; what executes goes on until it waits. Rule S10.4.

        Events, crons and invokes go on making runs, which wait. Deploys and restarts of workers don't resume it. Safe to repeat.
        Raises ConfigError for a queue that no function names, no worker serves, and where no run is.
        """
        self._connections().block_on(lambda: self.apause(queue))

    async def apause(self, queue: str) -> None:
        """See `pause`."""
        link = self._connections()
        await link.control().pause_queue(link.config.app_id, queue)

    def resume(self, queue: str) -> bool:
        """Let the runs of a paused queue go on; False when it was not paused. Safe to repeat. Rule S10.4."""
        return self._connections().block_on(lambda: self.aresume(queue))

    async def aresume(self, queue: str) -> bool:
        """See `resume`."""
        link = self._connections()
        return await link.control().resume_queue(link.config.app_id, queue)
