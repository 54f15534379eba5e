"""Runs and steps as a test sees them: the views that all others get, with checks that show the run's page when they fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taskflow.run import RunView, StepView
from taskflow.store.operation import DONE, FAILED, PENDING

__tracebackhide__ = True  # pytest leaves frames of this module out: a test is shown its own lines


class Anything:
    """Stands for "not checked", as None is an output like any other."""

    def __repr__(self) -> str:
        return "anything"


ANYTHING = Anything()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedStep(StepView):
    """A step, with checks. A plain `assert` on a field is enough; what a check raises shows the run's page."""

    page: str = field(repr=False, compare=False)  # of its run

    def assert_completed(self, output: Any = ANYTHING, *, attempts: int | None = None) -> None:
        """The step is done, with this output and after so many attempts, if given. AssertionError with the run's page."""
        self._check(self.state == DONE, f"to be done, but it is {self._told()}")
        self._check(
            output is ANYTHING or self.output == output,
            f"to return {output!r}, but it returned {self.output!r}",
        )
        self._check_attempts(attempts)

    def assert_failed(self, error: str | None = None, *, attempts: int | None = None) -> None:
        """The step has no retries left. `error` is part of "Name: message" of its last error."""
        self._check(self.state == FAILED, f"to have failed, but it is {self._told()}")
        self._check(
            error is None or error in self._told(), f"to fail with {error!r}, but it is {self._told()}"
        )
        self._check_attempts(attempts)

    def assert_pending(self) -> None:
        """The step waits: for time, an event, a signal, another run, or its next attempt."""
        self._check(self.state in PENDING, f"to wait, but it is {self._told()}")

    def _check_attempts(self, attempts: int | None) -> None:
        self._check(
            attempts in (None, self.attempts), f"to take {attempts} attempts, but it took {self.attempts}"
        )

    def _check(self, holds: bool, wanted: str) -> None:
        if not holds:
            raise AssertionError(f"expected step {self.key!r} {wanted}\n{self.page}")

    def _told(self) -> str:
        """Its state, with the error when there is one."""
        return f"{self.state} ({self.error.name}: {self.error.message})" if self.error else self.state


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRun(RunView):
    """A run, with its page (what `taskflow runs show` prints) and with steps that can be checked."""

    steps: Mapping[str, CheckedStep]
    page: str = field(repr=False, compare=False)

    def step(self, key: str) -> CheckedStep:
        """The step of that id; `charge#1` is the second "charge". AssertionError when the run did not come to it."""
        if key not in self.steps:
            raise AssertionError(
                f"run {self.run_id} has no step {key!r}, only {list(self.steps) or 'none at all'}\n{self.page}"
            )
        return self.steps[key]


def checked(run: RunView, *, page: str) -> CheckedRun:
    """The view with checks, which show this page when they fail."""
    steps = {key: CheckedStep(**facts(step, StepView), page=page) for key, step in run.steps.items()}
    return CheckedRun(**(facts(run, RunView) | {"steps": steps}), page=page)


def facts(view: RunView | StepView, kind: type[RunView | StepView]) -> dict[str, Any]:
    """The fields of a view by their names."""
    return {each.name: getattr(view, each.name) for each in dataclasses.fields(kind)}
