"""Bars of when steps executed and waited."""

from __future__ import annotations

import pytest

from taskflow.terminal.timeline import Kind, Stretch, bar


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([], "          "),
        ([Stretch(Kind.WORK, 0, 1000)], "██████████"),
        ([Stretch(Kind.WORK, 0, 250)], "██▌       "),
        ([Stretch(Kind.WORK, 250, 500)], "  ▐██     "),
        ([Stretch(Kind.WAIT, 250, 450)], "  ╶─╴     "),
        ([Stretch(Kind.WAIT, 0, 1000)], "──────────"),
        # However short, it can be seen, also at the very end.
        ([Stretch(Kind.WORK, 0, 0)], "▌         "),
        ([Stretch(Kind.WORK, 1000, 1000)], "         ▐"),
        # Clocks of two machines differ a little: nothing falls off the edge.
        ([Stretch(Kind.WORK, -50, 100)], "█         "),
        ([Stretch(Kind.WORK, 950, 1200)], "         ▐"),
        (
            [Stretch(Kind.FAILED, 0, 50), Stretch(Kind.WAIT, 50, 450), Stretch(Kind.WORK, 450, 600)],
            "▌───▐█    ",
        ),
    ],
)  # fmt: skip
def test_bar_shows_half_a_character_exactly(parts: list[Stretch], text: str) -> None:
    assert "".join(part for part, _ in bar(parts, 0, 1000, 10)) == text


def test_each_kind_has_its_style() -> None:
    parts = [Stretch(Kind.FAILED, 0, 200), Stretch(Kind.WAIT, 200, 400), Stretch(Kind.WORK, 400, 1000)]
    assert bar(parts, 0, 1000, 5) == [("█", "bad"), ("─", "dim"), ("███", "good")]


def test_run_of_no_duration_has_a_bar() -> None:
    assert bar([Stretch(Kind.WORK, 5, 5)], 5, 5, 3) == [("▌", "good"), ("  ", "")]
