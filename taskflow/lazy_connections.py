"""The connections of an app, made at the first use: who only defines functions imports nothing that connects."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from taskflow.config import Config

if TYPE_CHECKING:
    from taskflow.connections import Connections
    from taskflow.values.clock import Clock


class LazyConnections:
    """Connections with these settings, once they are asked for."""

    def __init__(self, config: Config, *, clock: Clock | None = None) -> None:
        self.config = config
        self.clock = clock
        self.lock = threading.Lock()
        self.made: Connections | None = None

    def get(self) -> Connections:
        """The connections: one set, whichever threads ask first."""
        if self.made is None:
            from taskflow.connections import Connections

            with self.lock:
                self.made = self.made or Connections(self.config, clock=self.clock)
        return self.made
