"""The two forms of log lines: for people, or one JSON object a line. Passwords of URLs are hidden in both."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from taskflow.observability.run_log import RunFields
from taskflow.redis.address import redact
from taskflow.values.text import printable, printable_lines

RUN_FIELDS = ("run_id", "function_id", "attempt")  # fields of the lines that are written inside a run
LEVELS = ("debug", "info", "warning", "error", "critical")
# libraries that log warnings only, unless at level debug
NOISY_LOGGERS = ("kombu", "amqp", "redis", "asyncio")

COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}
PLAIN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure_logging(*, level: str = "info", json_lines: bool = False, stream: TextIO | None = None) -> None:
    """Send all log lines of this process to `stream` (stderr by default). The user's own logging set-up may replace this later."""
    out = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines() if json_lines else HumanLines(colour=wants_colour(out)))
    handler.addFilter(RunFields())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if root.level > logging.DEBUG:
        for name in NOISY_LOGGERS:
            logging.getLogger(name).setLevel(max(root.level, logging.WARNING))


def wants_colour(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class HumanLines(logging.Formatter):
    """`2030-01-31 12:03:04.567 INFO    taskflow.worker: message  [app/function run 01J..., attempt 1]`"""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self.colour = colour

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).isoformat(" ", "milliseconds")
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            message += "\n" + self.formatStack(record.stack_info)
        level = f"{record.levelname:<7}"
        code = COLOURS.get(record.levelno)
        if self.colour:
            level = f"\x1b[{code}m{level}\x1b[0m" if code else level
            moment = f"\x1b[2m{moment}\x1b[0m"
        first, *more = redact(message).split("\n", 1)
        told = printable(first) + run_part(record)
        if more:
            told += "\n    " + printable_lines(more[0])
        return f"{moment} {level} {record.name}: {told}"


def run_part(record: logging.LogRecord) -> str:
    """The end of a line that names its run, if the record has one."""
    run_id, function_id, attempt = (getattr(record, name, None) for name in RUN_FIELDS)
    if run_id is None:
        return ""
    function = f"{function_id} " if function_id else ""
    step = getattr(record, "step", None)
    told = f"{function}run {run_id}{f', step {step}' if step else ''}{'' if attempt is None else f', attempt {attempt}'}"
    return f"  [{printable(redact(told))}]"


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, pid, then the fields of the caller's `extra`, then error."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
            "pid": record.process,
        }
        for name, value in vars(record).items():
            if name not in PLAIN_ATTRIBUTES and name not in line:
                line[name] = redact(value) if isinstance(value, str) else value
        if record.exc_info:
            line["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, default=lambda value: redact(str(value)), ensure_ascii=False)
