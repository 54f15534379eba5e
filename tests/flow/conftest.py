"""The tests of flow control look after what they leave behind, like those of the rules."""

from __future__ import annotations

from tests.rules.conftest import no_bugs, no_leaks

__all__ = ["no_bugs", "no_leaks"]
