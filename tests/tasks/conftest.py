"""Tests of tasks leave nothing behind either, as those of the rules."""

from __future__ import annotations

from tests.rules.conftest import no_leaks  # noqa: F401  (a fixture for every test here)
