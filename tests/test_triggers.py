import subprocess
import sys
from typing import Any

import pytest

from taskflow.errors import ConfigError
from taskflow.triggers import Trigger, TriggerCron, TriggerEvent, parse_cron, parse_triggers


def test_a_trigger_is_a_name_a_trigger_or_a_list() -> None:
    cron = TriggerCron("0 9 * * *", jitter="5m")
    assert parse_triggers(None) == ()
    assert parse_triggers("shop/paid") == (TriggerEvent("shop/paid"),)
    assert parse_triggers(cron) == (cron,)
    assert parse_triggers(["shop/*", TriggerEvent("a", expression="event.data.n > 1"), cron]) == (
        TriggerEvent("shop/*"),
        TriggerEvent("a", "event.data.n > 1"),
        cron,
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (
            5,
            "trigger must be an event name, EventModel, TriggerEvent, TriggerCron or a list of them, got int",
        ),
        ({"event": "a"}, "got dict"),
        ([5], "a trigger must be an event name, EventModel, TriggerEvent or TriggerCron, got int"),
        ([f"event-{n}" for n in range(11)], "at most 10 triggers, got 11"),
        (["a", TriggerEvent("a")], "names .* twice; remove one"),
        (
            [TriggerCron("0 9 * * *"), TriggerCron("0 9 * * *", data={"n": 1})],
            "cron '0 9 .* twice, but a tick starts one run",
        ),
        ("", "trigger event must have 1 to 256 characters, got 0"),
        ("x" * 257, "got 257"),
        ("shop/*/paid", r"may have a '\*' only at its end, got 'shop/\*/paid'"),
        ("**", r"only at its end, got '\*\*'"),
    ],
)
def test_what_is_no_trigger_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_triggers(value)


def test_names_that_end_in_a_star_are_patterns() -> None:
    assert [TriggerEvent(name).is_pattern for name in ("*", "shop/*", "shop/paid")] == [True, True, False]


@pytest.mark.parametrize("expression", ["event.data.", "", "order.total > 5", "async.data.x == 1"])
def test_an_expression_that_is_no_cel_over_event_is_refused(expression: str) -> None:
    with pytest.raises(ConfigError, match="^expression of the trigger 'shop/paid' "):
        TriggerEvent("shop/paid", expression)


@pytest.mark.parametrize(
    ("cron", "fields", "has_seconds", "zone"),
    [
        ("*/5 * * * *", "*/5 * * * *", False, "UTC"),
        (" 30  9 * * mon-fri ", "30 9 * * mon-fri", False, "UTC"),
        ("TZ=Europe/Berlin 0 0 L * *", "0 0 L * *", False, "Europe/Berlin"),
        ("TZ=America/New_York */10 * * * * *", "*/10 * * * * *", True, "America/New_York"),
        ("0 0 29 2 *", "0 0 29 2 *", False, "UTC"),
        ("0 0 * mar thu#1", "0 0 * mar thu#1", False, "UTC"),
    ],
)
def test_a_cron_has_five_or_six_fields_and_maybe_a_zone(
    cron: str, fields: str, has_seconds: bool, zone: str
) -> None:
    TriggerCron(cron)
    schedule = parse_cron(cron)
    assert (schedule.fields, schedule.has_seconds, str(schedule.zone)) == (fields, has_seconds, zone)


@pytest.mark.parametrize(
    ("cron", "reason"),
    [
        ("", "must be a str of 1 to 200 characters"),
        (None, "got None"),
        (["0 9 * * *"], "got \\["),
        ("* * * *", "has 4 fields"),
        ("0 0 1 1 * * 2030", "has 7 fields"),
        ("61 * * * *", r"can't be read: .*\. Write five fields"),
        ("* * * * * 61", "can't be read"),
        ("61 * * * * *", "can't be read"),
        ("a b c d e", "can't be read"),
        ("*/0 * * * *", "can't be read"),
        ("0 0 31 2 *", "never comes: there is no such day"),
        ("@daily", "for @daily write '0 0 \\* \\* \\*'"),
        ("@reboot", "has 1 fields"),
        ("H * * * *", "H and R would differ from process to process; use jitter"),
        ("0,r(0-30) * * * *", "H and R would differ"),
        ("TZ=Mars/Base 0 0 * * *", "there is no time zone 'Mars/Base'"),
        ("TZ=../etc 0 0 * * *", "there is no time zone"),
        ("TZ=Europe 0 0 * * *", "there is no time zone 'Europe'"),
        ("TZ=Europe/Berlin", "has 0 fields"),
        ("TZ= 0 0 * * *", "there is no time zone ''"),
        ("CRON_TZ=UTC 0 0 * * *", "can't be read"),
    ],
)
def test_what_is_no_cron_is_refused(cron: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        TriggerCron(cron)


def test_a_wrong_jitter_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^trigger cron '0 9 \* \* \*': trigger jitter must not be negative"
    ):
        TriggerCron("0 9 * * *", jitter="-1s")
    assert TriggerCron("0 9 * * *", jitter=1.5).jitter_ms == 1_500


def test_a_cron_catches_up_with_its_latest_tick_unless_told_otherwise() -> None:
    assert TriggerCron("0 9 * * *").catchup == "latest"
    assert TriggerCron("0 9 * * *", catchup="all") != TriggerCron("0 9 * * *", catchup="none")
    with pytest.raises(ConfigError, match="catchup is 'some', but must be one of"):
        TriggerCron("0 9 * * *", catchup="some")  # type: ignore[arg-type]


def test_triggers_with_the_same_effect_are_equal() -> None:
    one: Trigger = TriggerCron("0 9 * * *", jitter="1m")
    assert {one, TriggerCron("0 9 * * *", jitter=60)} == {one}


def test_event_names_alone_load_neither_cel_nor_croniter() -> None:
    code = (
        "import sys, taskflow.function, taskflow.beat.cron; from taskflow.triggers import parse_triggers;"
        "parse_triggers(['a', 'b/*']);"
        "sys.exit(any(module in sys.modules for module in ('celpy', 'croniter', 'pydantic')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([1], r"data must be a JSON object \(dict\), got list"),
        ({"scheduled_at": 1}, "has 'scheduled_at', which each tick sets itself"),
        ({"n": object()}, "data"),
        ({"text": "x" * 70_000}, "but at most 65,536 are allowed"),
    ],
)
def test_what_can_not_be_the_data_of_a_tick_is_refused(data: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"trigger cron '0 9 .* {reason}"):
        TriggerCron("0 9 * * *", data=data)


def test_the_data_of_a_tick_is_kept_as_json() -> None:
    assert TriggerCron("0 9 * * *", data={"days": (1, 2)}).data == {"days": [1, 2]}
