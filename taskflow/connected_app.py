"""ConnectedApp: an app's functions, its settings, and what it is connected to. `TaskFlow` adds what users do with them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from taskflow.config import Config
from taskflow.function import Function, id_of
from taskflow.functions import Functions
from taskflow.middleware.base import Middleware
from taskflow.run import Run
from taskflow.types import RunId

if TYPE_CHECKING:
    from taskflow.codecs.codecs import AnyCodec, Codecs

    # What connects, and what acts on runs, is imported where it is used.
    from taskflow.connections import Connections
    from taskflow.runs.control import RunControl
    from taskflow.values.clock import Clock
    from taskflow.webhook import Webhook


class LazyConnections:
    """Connections with these settings, once they are asked for: who only defines functions imports nothing that connects."""

    def __init__(self, config: Config, *, codecs: Codecs | None = None, clock: Clock | None = None) -> None:
        self.config = config
        self.given_codecs = codecs
        self.clock = clock
        self.lock = threading.Lock()
        self.made: Connections | None = None

    def get(self) -> Connections:
        """The connections: one set, whichever threads ask first."""
        if self.made is None:
            from taskflow.connections import Connections

            with self.lock:
                self.made = self.made or Connections(self.config, codecs=self.codecs, clock=self.clock)
        return self.made

    @property
    def codecs(self) -> Codecs:
        if self.given_codecs is not None:
            return self.given_codecs
        from taskflow.codecs.codecs import NO_CODECS

        return NO_CODECS


def codecs_of(given: Sequence[AnyCodec], config: Config) -> Codecs | None:
    """The codecs of an app; None if it has none, so that it does not import them. Raises ConfigError."""
    if given == () and not config.blobs:
        return None
    from taskflow.codecs.codecs import Codecs

    return Codecs(given, config.blob_place)


class ConnectedApp:
    """The functions of an app, and its connections, which are made at the first use."""

    def __init__(
        self, config: Config, middleware: Sequence[Middleware] = (), codecs: Sequence[AnyCodec] = ()
    ) -> None:
        made = codecs_of(codecs, config)
        self._lazy = LazyConnections(config, codecs=made)
        encrypted = () if made is None else made.event_fields
        self._functions = Functions(middleware, encrypted=encrypted, strict_events=config.strict_events)
        # The rules by which calls of tasks get their queues (S15.4), first match first: a pattern of ids, and a queue.
        self._routes: list[tuple[str, str]] = []
        self._webhooks: dict[str, Webhook] = {}
        # For tests: provider -> the one that stands in for it (S11.5).
        self.dependency_overrides: dict[Callable[..., Any], Callable[..., Any]] = {}
        # By full id, "app/function"; handlers of failures (`on_failure`) are functions too.
        self.functions = self._functions.by_id

    @property
    def id(self) -> str:
        return self.config.app_id

    @property
    def config(self) -> Config:
        """The checked settings of the app."""
        return self._lazy.config

    @property
    def codecs(self) -> Codecs:
        """What happens to the app's values before they are stored. Rule S12."""
        return self._lazy.codecs

    @property
    def _link(self) -> Connections:
        return self._lazy.get()

    def run(self, run_id: str) -> Run[Any]:
        """The handle of the run with this id. It looks nothing up before one of its methods is called."""
        return Run(RunId(run_id), self._link)

    def close(self) -> None:
        """Close the connections of sync code, and end its threads. The app can be used again."""
        self._link.close()

    async def aclose(self) -> None:
        """Close this loop's connection to the store, and the connections and threads of sync code."""
        await self._link.aclose()

    def _control(self) -> RunControl:
        return self._link.control(self.functions)

    async def _functions_with_runs(self, function: Function[..., Any] | str | None) -> list[str]:
        """The id of this function, or the ids of all functions of this app. Raises ConfigError for a function that never was."""
        control = self._control()
        if function is None:
            return await control.functions(self.id)
        if isinstance(function, str):
            await control.check_function(function)
        return [id_of(function)]
