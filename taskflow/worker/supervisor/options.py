"""SupervisorOptions: how many processes a worker has, and the times that they are given."""

from __future__ import annotations

from dataclasses import field

from taskflow.errors import ConfigError
from taskflow.values.record import record
from taskflow.worker.supervisor.child_process import ChildMain
from taskflow.worker.supervisor.children import Helper, RestartBackoff


@record(kw_only=True)
class SupervisorOptions:
    """The number of a worker's processes, and their time limits. Raises ConfigError for values that can't work."""

    child_main: ChildMain
    processes: int = 1
    helpers: tuple[Helper, ...] = ()
    drain_timeout_s: float = 30.0  # how long running steps may take to end after SIGTERM
    quit_grace_s: float = 2.0  # how long a child may take to hand back after SIGQUIT
    heartbeat_interval_s: float = 3.0
    lease_s: float = 10.0  # without a confirmed heartbeat for this long, children start no step
    blocked_after_s: float = 30.0  # an event loop that stands still for this long is logged
    replace_after_s: float = (
        300.0  # a child whose event loop stands still for this long is replaced; 0: never
    )
    backoff: RestartBackoff = field(default_factory=RestartBackoff)

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ConfigError(f"processes is {self.processes}, but a worker needs at least 1 child process.")
        if self.lease_s < 2 * self.heartbeat_interval_s:
            raise ConfigError(
                f"lease_s is {self.lease_s:g} and heartbeat_interval_s {self.heartbeat_interval_s:g}, but "
                "the lease must be at least twice the interval, or one late heartbeat stops all work."
            )
