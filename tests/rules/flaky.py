"""A step that fails at first."""

from __future__ import annotations

from typing import Any

from taskflow.testing import Harness


class Flaky:
    """A step's function that fails `failures` times; it notes the time (s) of each call."""

    def __init__(self, harness: Harness, failures: int, error: type[Exception] = ValueError) -> None:
        self.clock = harness.clock
        self.start_ms = self.clock.now_ms()
        self.failures = failures
        self.error = error
        self.calls_s: list[float] = []

    async def __call__(self, *args: Any) -> int:
        return self.call()

    def call(self) -> int:
        self.calls_s.append((self.clock.now_ms() - self.start_ms) / 1000)
        if len(self.calls_s) <= self.failures:
            raise self.error(f"failure {len(self.calls_s)}")
        return len(self.calls_s)
