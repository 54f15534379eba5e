"""Families: the name, kind, labels and meaning of every metric. Rule S13.1.

No label holds an id of a run, an event or a process, nor a value of a user: a metric has as many rows as the code has functions
and queues, however much is executed.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from taskflow.values.record import record

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]

STEP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
WAIT_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0)
RUN_BUCKETS = (
    0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0, 604_800.0
)  # fmt: skip
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


@record
class Family:
    """All rows of one name. `buckets` are the upper bounds (s) of a histogram."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


# --- what a worker's processes count ---

EVENTS_ROUTED = Family("taskflow_events_routed_total", "counter", "Events for which runs were made, if any.")
RUNS_STARTED = Family(
    "taskflow_runs_started_total", "counter", "Runs that began, by what made them: event, cron, invoke, ...",
    ("function", "cause"),
)  # fmt: skip
RUNS_ENDED = Family(
    "taskflow_runs_ended_total", "counter", "Runs that ended in a worker; `error` is the class of the error of a failed one.",
    ("function", "status", "error"),
)  # fmt: skip
ATTEMPTS_FAILED = Family(
    "taskflow_attempts_failed_total", "counter", "Failed attempts of steps, and of handlers that are tried again, by error class.",
    ("function", "error"),
)  # fmt: skip
QUEUE_WAIT = Family(
    "taskflow_queue_wait_seconds", "histogram", "From when a run could begin until it began.", ("function",), WAIT_BUCKETS
)  # fmt: skip
RUN_TIME = Family(
    "taskflow_run_seconds", "histogram", "From the beginning of a run to its end, its sleeps and waits included.",
    ("function",), RUN_BUCKETS,
)  # fmt: skip
STEP_TIME = Family(
    "taskflow_step_seconds", "histogram", "Attempts of steps: completed or failed.", ("function", "outcome"), STEP_BUCKETS
)  # fmt: skip
LOOP_LAG = Family(
    "taskflow_event_loop_lag_seconds", "histogram", "How late a timer of a process's event loop came, once a second.",
    (), LAG_BUCKETS,
)  # fmt: skip
SLOTS = Family("taskflow_slots", "gauge", "Slots of the worker's processes: busy or free.", ("state",))
RUNS_HELD = Family("taskflow_runs_held", "gauge", "Runs that the worker's processes have in memory.")
MEMORY = Family(
    "taskflow_memory_bytes", "gauge", "Resident memory of the worker's processes, without the supervisor."
)  # fmt: skip

# --- what a supervisor knows ---

CHILDREN = Family(
    "taskflow_children", "gauge", "Processes of the worker by state; helpers, like a beat, not counted.",
    ("state",),
)  # fmt: skip
CHILD_DEATHS = Family(
    "taskflow_child_deaths_total", "counter", "Processes that nobody had asked to end, by cause: exit, or a signal.", ("cause",)
)  # fmt: skip
READY = Family("taskflow_ready", "gauge", "1 while /readyz answers 200.")

# --- what the leading beat reads in the store ---

LEADS = Family("taskflow_beat_leads", "gauge", "1 while this beat leads.")
LIVE = Family("taskflow_runs_live", "gauge", "Runs that have not ended.", ("function", "queue", "status"))
DEPTH = Family(
    "taskflow_queue_depth", "gauge", "Runs that could begin or go on, those that a limit holds back included.",
    ("app", "queue"),
)  # fmt: skip
OLDEST = Family(
    "taskflow_queue_oldest_seconds", "gauge",
    "Age of the run that is next, 0 without one; a priority counts as age, a run that a limit holds back does not count.",
    ("app", "queue"),
)  # fmt: skip
WANTED = Family(
    "taskflow_queue_slots_wanted", "gauge", "Slots that the queue could use now: runs that execute, and the depth.",
    ("app", "queue"),
)  # fmt: skip
PAUSED = Family("taskflow_queue_paused", "gauge", "1 while the queue is paused.", ("app", "queue"))
SERVING = Family("taskflow_queue_workers", "gauge", "Live workers that serve the queue.", ("app", "queue"))
TIMERS = Family(
    "taskflow_timers", "gauge", "Sleeps, retries, timeouts and delayed starts that are not due yet, or late."
)  # fmt: skip
TIMERS_LATE = Family("taskflow_timers_late_seconds", "gauge", "How late the first timer is; 0 if none is.")
OUTBOX_OLDEST = Family(
    "taskflow_outbox_oldest_seconds", "gauge", "Age of the oldest event of the engine that is not published yet."
)  # fmt: skip
DEAD_LETTERS = Family(
    "taskflow_dead_letters", "gauge", "Messages that could not be read; the newest 10,000 are kept."
)  # fmt: skip
WORKERS = Family("taskflow_workers", "gauge", "Workers that the store knows.")

# --- what `taskflow web` counts ---

REQUESTS = Family(
    "taskflow_web_requests_total", "counter", "Answered requests, by part of the site.",
    ("part", "method", "status"),
)  # fmt: skip
REQUEST_TIME = Family(
    "taskflow_web_request_seconds", "histogram", "Until the answer had gone, by part of the site.",
    ("part",), STEP_BUCKETS,
)  # fmt: skip

FAMILIES: dict[str, Family] = {
    each.name: each
    for each in (
        EVENTS_ROUTED, RUNS_STARTED, RUNS_ENDED, ATTEMPTS_FAILED, QUEUE_WAIT, RUN_TIME, STEP_TIME, LOOP_LAG, SLOTS, RUNS_HELD,
        MEMORY, CHILDREN, CHILD_DEATHS, READY, LEADS, LIVE, DEPTH, OLDEST, WANTED, PAUSED, SERVING, TIMERS, TIMERS_LATE,
        OUTBOX_OLDEST, DEAD_LETTERS, WORKERS, REQUESTS, REQUEST_TIME,
    )
}  # fmt: skip
