"""examples/demo.py, as `make demo` runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.chaos
@pytest.mark.timeout(150)
def test_demo_completes_every_run_and_shows_the_timeline() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo"], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for part in (
        "✓ reserve",
        "✓ charge",
        "✓ write invoice",
        "✓ parcel leaves",
        "✓ let it arrive",
        "✓ say thank you",
    ):
        assert part in done.stdout
    assert "315 runs have completed" in done.stdout
