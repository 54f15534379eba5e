"""What others wrote reaches a terminal or a text log as text alone."""

from __future__ import annotations

import io
import logging
import sys
import unicodedata

import pytest

from taskflow.observability.logs import HumanLines
from taskflow.terminal.screen import Screen, plain
from taskflow.values.text import printable, printable_lines, short

# What a name, a message, an output may hold, and what of it a person sees.
CORPUS = {
    "plain text": "plain text",
    "Grüße, 日本, naïve": "Grüße, 日本, naïve",
    "family 👨\u200d👩\u200d👧 and नि\u200dक": "family 👨\u200d👩\u200d👧 and नि\u200dक",
    "a\nb\r\nc\td": "a\\nb\\r\\nc\\td",
    "\x1b[2J\x1b]0;title\x07": "\\x1b[2J\\x1b]0;title\\x07",
    "\x9b31m C1 \x90 \x85": "\\x9b31m C1 \\x90 \\x85",
    "nul \x00 del \x7f": "nul \\x00 del \\x7f",
    "invoice\u202efdp.exe": "invoice\\u202efdp.exe",
    "\u2066isolate\u2069 \u200fmark\u061c": "\\u2066isolate\\u2069 \\u200fmark\\u061c",
    "line\u2028paragraph\u2029": "line\\u2028paragraph\\u2029",
    "zero\u200bwidth \ufeff": "zero\\u200bwidth \\ufeff",
    "caf\udce9.txt": "caf\\udce9.txt",
    "tag \U000e0041": "tag \\U000e0041",
}


@pytest.mark.parametrize(("text", "shown"), CORPUS.items(), ids=[ascii(text) for text in CORPUS])
def test_what_could_act_is_written_as_python_writes_it(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(printable(text)) == shown
    stream = io.StringIO()
    Screen(stream).print_line([*plain(f"{text}|"), *plain("x")])
    assert stream.getvalue() == f"{shown}|x\n"
    assert printable(short(text, 60)).isprintable() or "\u200d" in text


def test_every_control_and_every_direction_is_escaped() -> None:
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        acts = unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
        turns = unicodedata.bidirectional(char) in (
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        )
        if acts or turns:
            assert printable(char) != char, hex(code)


def test_lines_after_the_first_are_set_in() -> None:
    assert printable_lines("one\ntwo\x1b\n") == "one\n    two\\x1b"


def test_a_log_line_can_not_be_forged() -> None:
    record = logging.LogRecord(
        "shop", logging.INFO, "shop.py", 1, "paid %s", ("\x1b[31m7\n2030-01-01 ERROR",), None
    )
    _, last = HumanLines(colour=False).format(record).split("\n")
    assert last == "    2030-01-01 ERROR"
    assert "\\x1b[31m7" in HumanLines(colour=False).format(record)
