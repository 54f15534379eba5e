"""Text for terminals and logs: foreign text must neither control the terminal nor look like a line that taskflow wrote.

All text for a terminal or a text log goes through `printable` or `printable_lines`. Output for programs (`--json`, JSON logs) is
left exact.
"""

from __future__ import annotations

import re
from functools import cache

MAX_REASON_CHARS = 120

# C0 and C1 controls; marks that change the direction of writing, so that text shows another order than it has; the separators of
# lines and paragraphs; characters without a width, but for the joiners that scripts and emoji need; lone surrogates, which no
# encoding takes.
ACTING = "\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    """The text as one line. Characters that could control a terminal are escaped as in Python: `\\n`, `\\x1b`, `\\u202e`."""
    return text if text.isascii() and text.isprintable() else acting().sub(escape, text)


def printable_lines(text: str, *, indent: str = "    ") -> str:
    """`printable` for several lines. Lines after the first are indented, so that none looks like a line that taskflow wrote."""
    return f"\n{indent}".join(printable(line) for line in text.rstrip("\n").split("\n"))


@cache
def acting() -> re.Pattern[str]:
    # Made when it is first needed: with its wide range it takes as long as the import of thirty modules.
    return re.compile(f"[{ACTING}]")


def escape(match: re.Match[str]) -> str:
    char = match.group()
    code = ord(char)
    if char in NAMES:
        return NAMES[char]
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def short(text: str, limit: int = MAX_REASON_CHARS) -> str:
    """`text` as one line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
