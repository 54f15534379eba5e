"""How log lines look, for people and for programs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from taskflow.observability.logs import HumanLines, JsonLines, configure_logging

FACTS: dict[str, Any] = {"run_id": "01J-abc", "function_id": "shop/fulfil", "attempt": 2}


def record(message: str, *args: object, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("taskflow.run", level, "file.py", 1, message, args, None)
    made.__dict__.update(extra)
    return made


def failed(message: str) -> logging.LogRecord:
    try:
        raise ValueError("redis://u:s3cret@host is wrong")
    except ValueError as error:
        made = record(message, level=logging.ERROR)
        made.exc_info = (ValueError, error, error.__traceback__)
        return made


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield root
    root.handlers[:], root.level = before


def test_human_line_has_time_level_logger_message_and_the_run_it_is_about() -> None:
    line = HumanLines(colour=False).format(record("paid %d", 7, **FACTS))
    moment, _, rest = line.partition(" INFO    ")
    assert len(moment) == len("2030-01-31 12:03:04.567")
    assert rest == "taskflow.run: paid 7  [shop/fulfil run 01J-abc, attempt 2]"


def test_human_line_without_a_run_ends_with_the_message_and_the_traceback_follows() -> None:
    lines = HumanLines(colour=False).format(failed("it broke")).splitlines()
    assert lines[0].endswith("taskflow.run: it broke")
    assert lines[1] == "    Traceback (most recent call last):"
    assert lines[-1] == "    ValueError: redis://u:***@host is wrong"


def test_levels_have_colours_only_on_a_terminal() -> None:
    warning = record("careful", level=logging.WARNING)
    assert "\x1b[33mWARNING\x1b[0m" in HumanLines(colour=True).format(warning)
    assert "\x1b" not in HumanLines(colour=False).format(warning)


def test_json_line_is_one_object_with_the_runs_facts_and_extras() -> None:
    line = JsonLines().format(record("paid\n%s", "Änne", amount=object, **FACTS))
    assert "\n" not in line
    fields = json.loads(line)
    assert fields["time"].endswith("+00:00")
    assert fields["message"] == "paid\nÄnne"
    assert (fields["level"], fields["logger"]) == ("info", "taskflow.run")
    assert {name: fields[name] for name in FACTS} == FACTS
    assert fields["amount"] == "<class 'object'>"


def test_json_line_holds_the_traceback_in_one_field() -> None:
    fields = json.loads(JsonLines().format(failed("it broke")))
    assert fields["error"].startswith("Traceback (most recent call last):")
    assert fields["error"].endswith("ValueError: redis://u:***@host is wrong")


def test_passwords_in_urls_are_hidden_wherever_they_stand() -> None:
    """All of them are `redact`'s, which tests/redis/test_address.py knows."""
    logged = record("from %s", "rediss://u:s3cret@host?ssl_password=s3cret", broker="amqp://u:s3cret@mq//")
    for line in (HumanLines(colour=False).format(logged), JsonLines().format(logged)):
        assert "from rediss://u:***@host?ssl_password=***" in line
        assert "s3cret" not in line


def test_configured_logging_has_one_handler_and_keeps_libraries_quiet(root: logging.Logger) -> None:
    stream = io.StringIO()
    configure_logging(level="info", stream=stream)
    logging.getLogger("kombu").info("chatter")
    logging.getLogger("shop").info("sold")
    logging.getLogger("shop").debug("details")
    assert [line.partition("INFO    ")[2] for line in stream.getvalue().splitlines()] == ["shop: sold"]


def test_the_end_of_a_line_that_names_run_and_step_can_not_act_on_the_terminal() -> None:
    line = HumanLines(colour=False).format(record("it broke", **FACTS, step="a\u202eb\x1b[31m\nforged"))
    assert line.endswith("step a\\u202eb\\x1b[31m\\nforged, attempt 2]")
