"""Checks of what is left: no key, timer, place or wait outlives its run, and the engine has no errors of its own. Rule S10.1."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.evidence import Evidence

# Of live runs only: all ended, nothing of these may be there.
LIVE = (
    "claims:", "ready:", "lanes:", "blocked", "places:", "timers", "waits:", "waitpaths:", "waitpatterns", "signals", "joins:",
    "queue:", "outbox", "counts", "singleton:", "debounce:", "batching:", "held:", "paused",
)  # fmt: skip
# What stays for ever, or for minutes: its size does not depend on how many runs there were.
LASTING = {
    "version", "secret", "seq", "leader", "apps", "app:sim", "functions:sim", "codes:sim", "known_functions", "flow",
    "crons", "hints", "queues", "nudge", "graves", "ended",
    "dead_letters",
}  # fmt: skip
CODE = ("code:sim\x1f", "edition:sim\x1f")  # of the code that was executed last


def nothing_outlives_its_run(evidence: Evidence) -> Iterator[str]:
    for name, size in evidence.stored.keys.items():
        if name.startswith(LIVE) or name.endswith("\x1flive"):
            yield f"S10.1: all runs have ended, but {name!r} holds {size}"


def retention_removes_all(evidence: Evidence) -> Iterator[str]:
    for name, size in evidence.left.items():
        if name not in LASTING and not name.startswith(CODE):
            yield f"S10.1: the retention is over and the workers have left, but {name!r} holds {size}"


def runs_are_kept(evidence: Evidence) -> Iterator[str]:
    """Rule S10.1: as long as their functions say, else as the app does."""
    for run in evidence.stored.runs.values():
        plan = evidence.functions[run.function]
        is_short = bool(plan.keep_failed_s if run.status == "failed" else plan.keep_s)
        if evidence.kept is not None and (run.id in evidence.kept) is is_short:
            fate = "kept too long" if is_short else "removed too early"
            yield f"S10.1: run {run.id} of {run.function}, which is {run.status}, was {fate}"


def the_engine_has_no_errors(evidence: Evidence) -> Iterator[str]:
    for record in evidence.of("loop_error"):
        yield f"error in {record.process} at {record.place}: {record['message']} {record['error']}"
    for record in evidence.of("log"):
        if record["level"] in ("ERROR", "CRITICAL"):
            yield f"logged at {record.place}: {record['text']} {record['error']}"


LEAK_CHECKS = (nothing_outlives_its_run, runs_are_kept, retention_removes_all, the_engine_has_no_errors)
