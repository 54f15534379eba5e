"""What is printed for people: aligned, safe, and legible wherever it goes."""

from __future__ import annotations

import io
import os
import pty
import sys

import pytest

from taskflow.terminal.screen import Cell, Screen, plain

ROWS: list[list[Cell]] = [
    [plain("a"), plain("1 ms"), plain("why", "bad")],
    [plain("longer"), plain("12 min"), plain("")],
    [plain("日本"), plain("2 s"), plain("a reason that is rather long")],
]


def printed(screen: Screen) -> str:
    assert isinstance(screen.stream, io.StringIO)
    return screen.stream.getvalue()


def test_columns_stand_below_each_other_also_with_wide_characters() -> None:
    screen = Screen(io.StringIO())
    screen.table(ROWS, header=("name", "took", "why"), right=(1,))
    assert (
        printed(screen)
        == """\
name      took  why
a         1 ms  why
longer  12 min
日本       2 s  a reason that is rather long
"""
    )


def test_last_column_moves_below_on_a_narrow_terminal() -> None:
    screen = Screen(io.StringIO(), width=30, is_terminal=True)
    screen.table(ROWS, header=("name", "took", "why"), right=(1,))
    assert (
        printed(screen)
        == """\
name      took
a         1 ms
    why
longer  12 min
日本       2 s
    a reason that is rather l…
"""
    )


def test_stored_text_can_not_control_the_terminal() -> None:
    screen = Screen(io.StringIO())
    screen.print_line(plain("red \x1b[31malert\x07\r"))
    assert printed(screen) == "red \\x1b[31malert\\x07\\r\n"


def test_without_unicode_the_signs_are_ascii() -> None:
    screen = Screen(io.StringIO(), is_ascii=True)
    screen.print_line([("✓ ", "good"), ("█▌╶──", "good"), (" naïve", "")])
    assert printed(screen) == "+ ##--- na?ve\n"


@pytest.mark.parametrize(("no_color", "is_coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals_and_no_color_is_respected(
    monkeypatch: pytest.MonkeyPatch, no_color: str, is_coloured: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("NO_COLOR", no_color) if no_color else monkeypatch.delenv("NO_COLOR", raising=False)
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        screen = Screen.of_stdout()
        screen.print_line(plain("done", "good"))
        terminal.flush()
        output = os.read(master, 1000).decode()
    os.close(master)
    assert screen.is_terminal
    assert ("\x1b[32m" in output) is is_coloured
    assert "done" in output


@pytest.mark.parametrize("width", [25, 30, 45, 60, 80])
def test_a_narrow_terminal_loses_no_column(width: int) -> None:
    screen = Screen(io.StringIO(), width=width, is_terminal=True)
    row = [
        plain("01M7YF4F60"),
        plain("shop/fulfil"),
        plain("waiting"),
        plain("50 s ago"),
        plain("5 ms"),
        plain("asleep"),
    ]
    screen.table([row], header=("run", "function", "status", "created", "took", "why"), right=(4,))
    lines = printed(screen).splitlines()
    assert max(map(len, lines)) <= width
    for (text, _), *_ in row:
        assert text in printed(screen)


def test_columns_that_do_not_fit_stand_below_with_their_titles() -> None:
    screen = Screen(io.StringIO(), width=30, is_terminal=True)
    rows = [
        [plain("01M7YF4F60"), plain("shop/fulfil"), plain("waiting"), plain("5 ms"), plain("asleep")],
        [plain("01M7YF4F61"), plain("shop/pack"), plain("failed"), plain(""), plain("")],
    ]
    screen.table(rows, header=("run", "function", "status", "took", "why"), right=(3,))
    assert (
        printed(screen)
        == """\
run         function
01M7YF4F60  shop/fulfil
    status waiting  took 5 ms
    asleep
01M7YF4F61  shop/pack
    status failed
"""
    )
