"""Sentry: a middleware that reports failed runs, and marks all that code of a run reports. Rule S13.4."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from taskflow.errors import StepError
from taskflow.middleware.base import Middleware
from taskflow.middleware.facts import Activation, Attempt, Outcome

try:
    import sentry_sdk
    from sentry_sdk.integrations.logging import ignore_logger
    from sentry_sdk.scope import Scope, use_isolation_scope
    from sentry_sdk.utils import event_from_exception
except ImportError as error:
    raise ImportError(
        "taskflow.Sentry needs the SDK of Sentry: pip install 'taskflow-durable[sentry]'"
    ) from error

STATE = "taskflow.sentry"


class Sentry(Middleware):
    """Reports each failed run once, and marks all that its code reports with run, function and step. Rule S13.4.

        sentry_sdk.init(dsn=...)
        app = TaskFlow("shop", middleware=[Sentry()])

    It reports when a run has failed, and no attempt that is tried again; a step's error that the handler catches is none. Each
    activation of a run has an isolation scope of its own, as a web request has one. Without `sentry_sdk.init` it does nothing.
    """

    def __init__(self) -> None:
        # What it says at ERROR, "run failed", would be a second report of the same.
        ignore_logger("taskflow.runs")

    async def wrap_run(self, run: Activation, call: Callable[[], Awaitable[Outcome]]) -> Outcome:
        if not sentry_sdk.is_initialized():
            return await call()
        with use_isolation_scope(scope_of(run)):
            return await call()

    async def wrap_attempt(self, attempt: Attempt, call: Callable[[], Awaitable[Outcome]]) -> Outcome:
        if attempt.is_handler or not sentry_sdk.is_initialized():
            return await call()
        with sentry_sdk.new_scope() as scope:
            scope.set_tag("taskflow.step_id", attempt.step_id)
            scope.set_context("step", {"key": attempt.step_key, "attempt": attempt.number})
            return await call()

    def on_run_end(self, run: Activation, outcome: Outcome) -> None:
        if outcome.error is None or outcome.status != "failed" or not sentry_sdk.is_initialized():
            return
        with use_isolation_scope(scope_of(run)), sentry_sdk.new_scope() as scope:
            if isinstance(outcome.error, StepError) and outcome.error.step_id:
                scope.set_tag("taskflow.step_id", outcome.error.step_id)
            options = sentry_sdk.get_client().options
            mechanism = {"type": "taskflow", "handled": False}
            event, hint = event_from_exception(outcome.error, client_options=options, mechanism=mechanism)
            sentry_sdk.capture_event(event, hint=hint)


def scope_of(run: Activation) -> Scope:
    """The isolation scope of this activation, with what code of the run has put into it."""
    scope: Scope | None = run.state.get(STATE)
    if scope is None:
        scope = run.state[STATE] = sentry_sdk.get_isolation_scope().fork()
        scope.clear_breadcrumbs()
        scope.set_transaction_name(run.function_id, source="task")
        scope.set_tags({"taskflow.run_id": run.run_id, "taskflow.function_id": run.function_id})
        scope.set_context(
            "run",
            {
                "id": run.run_id, "function": run.function_id, "attempt": run.attempt, "worker": run.worker,
                "event": run.event.name, "event_id": run.event.id,
            },
        )  # fmt: skip
    return scope
