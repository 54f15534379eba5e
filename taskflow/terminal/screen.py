"""Output for people: lines of styled text, coloured by rich on a terminal, plain everywhere else.

The layout is made here and is the same in both, so output that is piped into a file looks as on a terminal. Styles are names
(good, bad, warn, dim, bold, accent), not colours. NO_COLOR is respected.
"""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TextIO, TypeAlias

from taskflow.values.text import printable

Span: TypeAlias = tuple[str, str]  # text, style
Cell: TypeAlias = Sequence[Span]
Line: TypeAlias = Sequence[Span]

PLAIN_WIDTH = 100  # the width of drawings when there is no terminal
MIN_WIDTH = 20  # a terminal that says it is narrower does not know its width
GAP = "  "
BELOW = "    "  # before what stands below its row on a narrow terminal
RICH_STYLES = {
    "good": "green", "bad": "red", "warn": "yellow", "dim": "bright_black", "bold": "bold", "accent": "cyan",
}  # fmt: skip
ASCII_FORMS = str.maketrans(
    {"█": "#", "▌": "#", "▐": "#", "─": "-", "╴": "-", "╶": "-", "✓": "+", "✗": "x", "○": "o", "●": "*", "↻": "r",
     "◌": ".", "⊘": "/", "–": "-", "…": "~", "·": "-", "→": ">", "▸": ">"}
)  # fmt: skip

GLYPHS: dict[str, Span] = {
    # of runs
    "scheduled": ("◌", "dim"), "queued": ("◌", "warn"), "running": ("●", "accent"), "waiting": ("○", "accent"),
    "completed": ("✓", "good"), "failed": ("✗", "bad"), "cancelled": ("⊘", "warn"), "skipped": ("–", "dim"),
    # of steps
    "done": ("✓", "good"), "wait": ("○", "accent"), "retry": ("↻", "warn"), "due": ("↻", "warn"), "dropped": ("–", "dim"),
}  # fmt: skip


def plain(text: object, style: str = "") -> list[Span]:
    """A cell with text of one style."""
    return [(str(text), style)]


def glyph(state: str) -> Span:
    """The sign for the state of a run or step."""
    return GLYPHS.get(state, ("?", "warn"))


@dataclass(slots=True)
class Screen:
    """The output of a command for people. Make it with `Screen.of_stdout()`."""

    stream: TextIO
    width: int = PLAIN_WIDTH
    is_terminal: bool = False  # if so, lines are cut at its width
    is_ascii: bool = False
    console: object | None = field(default=None, repr=False)
    has_printed: bool = False

    @classmethod
    def of_stdout(cls) -> Screen:
        stream = sys.stdout
        is_terminal = stream.isatty()
        width = shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns
        return cls(
            stream, width=max(width, MIN_WIDTH), is_terminal=is_terminal, is_ascii=not can_print(stream, "█✓"),
            console=rich_console() if is_terminal and os.environ.get("TERM") != "dumb" else None,
        )  # fmt: skip

    def clear(self) -> None:
        """What is printed next takes the place of what stands there; without a terminal it comes below, after a blank line."""
        if self.is_terminal and os.environ.get("TERM") != "dumb":
            self.stream.write("\x1b[H\x1b[2J")
        elif self.has_printed:
            self.stream.write("\n")
        self.has_printed = True

    def print(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self.print_line(line)

    def print_line(self, line: Line = ()) -> None:
        spans = without_end_blanks([(self.printable(text), style) for text, style in line])
        if self.console is None:
            self.stream.write("".join(text for text, _ in spans) + "\n")
            return
        from rich.console import Console
        from rich.text import Text

        assert isinstance(self.console, Console)
        self.console.print(
            Text.assemble(*[(text, RICH_STYLES.get(style, "")) for text, style in spans]), soft_wrap=True
        )

    def printable(self, text: str) -> str:
        safe = printable(text)
        if not self.is_ascii:
            return safe
        return safe.translate(ASCII_FORMS).encode("ascii", "replace").decode()

    def table(
        self, rows: Sequence[Sequence[Cell]], *, header: Sequence[str], right: Sequence[int] = ()
    ) -> None:
        """Print rows in aligned columns; the columns in `right` are aligned to the right.

        On a terminal that is too narrow, the last column (usually text) gets lines of its own, and so do the columns before it that
        don't fit, with their titles.
        """
        titled = [[plain(title, "dim") for title in header], *rows]
        lines = aligned(titled, right=right)
        if not self.is_terminal or max(cell_width(line) for line in lines) <= self.width:
            self.print(lines)
            return
        kept = columns_that_fit(titled, self.width)
        narrow = aligned([row[:kept] for row in titled], right=right)
        self.print_line(clipped(narrow[0], self.width))
        for line, row in zip(narrow[1:], rows, strict=True):
            self.print_line(clipped(line, self.width))
            moved = [
                [(f"{title} ", "dim"), *cell]
                for title, cell in zip(header[kept:-1], row[kept:-1], strict=True)
                if cell_width(cell)
            ]
            below = [*packed(moved, self.width - len(BELOW)), *([row[-1]] if cell_width(row[-1]) else [])]
            self.print(clipped([(BELOW, ""), *each], self.width) for each in below)


def without_end_blanks(line: list[Span]) -> list[Span]:
    while line and not line[-1][0].strip():
        line.pop()
    if line:
        text, style = line.pop()
        line.append((text.rstrip(), style))
    return line


def rich_console() -> object | None:
    """Rich's console, or None where rich isn't installed (it comes with the extra `dev`)."""
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(highlight=False, markup=False, emoji=False)


def can_print(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True


def aligned(
    rows: Sequence[Sequence[Cell]], *, right: Sequence[int] = (), indent: str = ""
) -> list[list[Span]]:
    """The rows as lines, with their columns aligned."""
    columns = max((len(row) for row in rows), default=0)
    widths = [max((cell_width(row[i]) for row in rows if i < len(row)), default=0) for i in range(columns)]
    lines = []
    for row in rows:
        line: list[Span] = [(indent, "")] if indent else []
        for i, cell in enumerate(row):
            fill = (" " * (widths[i] - cell_width(cell)), "")
            line += [fill, *cell] if i in right else [*cell, fill]
            line.append((GAP, ""))
        lines.append(line[:-1])
    return lines


def columns_that_fit(rows: Sequence[Sequence[Cell]], width: int) -> int:
    """How many of the first columns fit side by side, the last one left out; at least one."""
    taken = -len(GAP)
    for column in range(len(rows[0]) - 1):
        taken += len(GAP) + max(cell_width(row[column]) for row in rows)
        if taken > width:
            return max(column, 1)
    return len(rows[0]) - 1


def packed(cells: Iterable[Cell], width: int) -> list[Line]:
    """The cells in lines of at most `width` columns, unless a cell is wider."""
    lines: list[list[Span]] = []
    for cell in cells:
        if lines and cell_width(lines[-1]) + len(GAP) + cell_width(cell) <= width:
            lines[-1] += [(GAP, ""), *cell]
        else:
            lines.append(list(cell))
    return [*lines]


def clipped(line: Line, width: int) -> list[Span]:
    """The line, cut to `width` columns with an ellipsis."""
    line = [(printable(text), style) for text, style in line]
    text_width = cell_width([(("".join(text for text, _ in line)).rstrip(), "")])
    if text_width <= width:
        return list(line)
    kept: list[Span] = []
    left = width - 1
    for text, style in line:
        part = fitting(text, left)
        kept.append((part, style))
        left -= text_columns(part)
        if part != text:
            kept.append(("…", style))
            break
    return kept


def fitting(text: str, width: int) -> str:
    """The beginning of `text` that takes at most `width` columns."""
    used = 0
    for place, char in enumerate(text):
        used += char_columns(char)
        if used > width:
            return text[:place]
    return text


def cell_width(cell: Cell) -> int:
    return sum(text_columns(printable(text)) for text, _ in cell)


def text_columns(text: str) -> int:
    return len(text) if text.isascii() else sum(char_columns(char) for char in text)


def char_columns(char: str) -> int:
    """How many columns of a terminal a character takes."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
