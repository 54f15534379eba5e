"""What the processes logged."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

TRACEBACK = re.compile(r"^Traceback \(most recent call last\):\n(?:\s.*\n)*(\S.*)$", re.MULTILINE)
ERROR = re.compile(r"^.*?\bERROR +(.*)$", re.MULTILINE)
MAX_CHARS = 60

Logs = Iterable[tuple[str, str]]  # (process, text)


def check_logs(logs: Logs) -> list[str]:
    """No process may be surprised: whatever dies or breaks, it says so in a line of its own. Rule S9.5."""
    return [
        f"{process} logged a traceback: {end}" for process, text in logs for end in TRACEBACK.findall(text)
    ]


def count_errors(logs: Logs) -> Counter[str]:
    """Lines of level ERROR, without time and numbers."""
    lines = (line for _, text in logs for line in ERROR.findall(text))
    return Counter(re.sub(r"[0-9a-f]{6,}|\d+", "#", line)[:MAX_CHARS] for line in lines)


def keep_logs(logs: Logs, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for process, text in logs:
        (folder / f"{process}.log").write_text(text)
