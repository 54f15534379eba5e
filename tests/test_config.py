import inspect
from dataclasses import FrozenInstanceError, fields
from datetime import timedelta
from typing import Any

import pytest

from taskflow.config import DEFAULT_URL, Config, Settings
from taskflow.errors import ConfigError
from taskflow.retries import Retries


def resolve(environ: dict[str, str] | None = None, **settings: Any) -> Config:
    return Config.resolve("shop", environ=environ or {}, **settings)


def test_without_anything_given_the_defaults_hold() -> None:
    assert resolve() == Config(
        app_id="shop",
        broker="redis://localhost:6379/0",
        store="redis://localhost:6379/0",
        app_version="",
        namespace="tf",
        send_timeout_ms=3_000,
        max_event_bytes=262_144,
        retention_ms=86_400_000,
        failed_retention_ms=604_800_000,
        max_steps=1_000,
        max_step_output_bytes=4_194_304,
        max_run_bytes=33_554_432,
        max_crashes=3,
        determinism="warn",
        retries=Retries(attempts=4),
    )
    assert resolve() == Config(app_id="shop")


def test_the_environment_beats_the_defaults() -> None:
    environ = {
        "TASKFLOW_BROKER": "amqp://me:secret@mq//",
        "TASKFLOW_STORE": "valkey://store:6380/1",
        "TASKFLOW_APP_VERSION": "2030.1",
        "TASKFLOW_NAMESPACE": "tf-2",
        "TASKFLOW_SEND_TIMEOUT": "1.5s",
        "TASKFLOW_MAX_EVENT_BYTES": "512 KiB",
        "TASKFLOW_RETENTION": "2d",
        "TASKFLOW_FAILED_RETENTION": "3600",
        "TASKFLOW_MAX_STEPS": "50",
        "TASKFLOW_MAX_STEP_OUTPUT_BYTES": "1MiB",
        "TASKFLOW_MAX_RUN_BYTES": "2000000",
        "TASKFLOW_MAX_CRASHES": "5",
        "TASKFLOW_DETERMINISM": "strict",
        "TASKFLOW_RETRIES": "0",
    }
    assert resolve(environ) == Config(
        app_id="shop",
        broker="amqp://me:secret@mq//",
        store="valkey://store:6380/1",
        app_version="2030.1",
        namespace="tf-2",
        send_timeout_ms=1_500,
        max_event_bytes=524_288,
        retention_ms=172_800_000,
        failed_retention_ms=3_600_000,
        max_steps=50,
        max_step_output_bytes=1_048_576,
        max_run_bytes=2_000_000,
        max_crashes=5,
        determinism="strict",
        retries=Retries(attempts=0),
    )


def test_a_keyword_beats_the_environment() -> None:
    environ = {"TASKFLOW_MAX_STEPS": "50", "TASKFLOW_RETRIES": "x", "TASKFLOW_SEND_TIMEOUT": "2s"}
    config = resolve(environ, max_steps=7, retries=Retries(attempts=1), send_timeout=timedelta(seconds=1))
    assert (config.max_steps, config.retries.attempts, config.send_timeout_ms) == (7, 1, 1_000)


def test_an_empty_variable_counts_as_unset() -> None:
    assert resolve({"TASKFLOW_MAX_STEPS": "", "TASKFLOW_STORE": " "}) == resolve()


def test_the_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLOW_MAX_CRASHES", "9")
    assert Config.resolve("shop").max_crashes == 9


@pytest.mark.parametrize(
    ("broker", "store"),
    [
        ("redis://cache:6379/2", "redis://cache:6379/2"),
        ("valkeys://:pw@cache", "valkeys://:pw@cache"),
        ("taskflow+redis://cache/1", "redis://cache/1"),
        ("redis://one;redis://two", "redis://one"),
        ("redis+sentinel://a,b:26380/main", "redis+sentinel://a,b:26380/main"),
        ("taskflow+rediss+cluster://a,b", "rediss+cluster://a,b"),
        ("amqp://mq//", DEFAULT_URL),
        ("memory://", DEFAULT_URL),
    ],
)
def test_the_store_is_the_broker_where_that_is_a_redis(broker: str, store: str) -> None:
    assert resolve(broker=broker).store == store
    assert resolve(broker=broker, store="unix:///run/valkey.sock").store == "unix:///run/valkey.sock"


@pytest.mark.parametrize(
    "broker",
    ["redis+socket:///run/redis.sock", "sentinel://host:26379", "redis+sentinels://h/m", "valkey+tls://h"],
)
def test_an_address_like_ours_that_cannot_serve_as_store_is_no_store_on_localhost(broker: str) -> None:
    settings: list[dict[str, Any]] = [
        {"broker": broker},
        {"store": broker},
        {"broker": f"redis://cache;{broker}"},
    ]
    for given in settings:
        with pytest.raises(
            ConfigError, match=r"scheme is .*redis\+sentinel://host1,host2:26380,host3/mymaster/0"
        ):
            resolve(**given)


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("broker", "localhost:6379", "must be a URL like"),
        ("broker", 5, "got 'int'"),
        ("store", "amqp://mq//", "scheme is 'amqp', but a Redis or Valkey is named by"),
        ("broker", "redis://a;redis+cluster://b", "names sentinels or a cluster among other URLs"),
        ("store", "redis://a;redis://b", "one URL of a Redis or Valkey"),
        ("app_version", "x" * 129, "at most 128 characters"),
        ("namespace", "tf:{0}", "must have 1 to 64 of the characters"),
        ("send_timeout", 0, "must be more than 0 and at most 10m"),
        ("send_timeout", "1h", "must be more than 0 and at most 10m, got '1h'"),
        ("send_timeout", "soon", "can't be read: 'soon'"),
        ("retention", "400d", "at most 1 year"),
        ("failed_retention", -1, "must not be negative"),
        ("max_steps", 0, "must be an int from 1 to 1,000,000, got 0"),
        ("max_steps", True, "got True"),
        ("max_crashes", 1.5, "got 1.5"),
        ("max_event_bytes", 0, "a number of bytes from 1 to 67,108,864, got 0"),
        ("max_run_bytes", 1 << 40, "a number of bytes from 1"),
        ("determinism", "lax", "must be 'warn' or 'strict', got 'lax'"),
        ("retries", 21, "retries must be an int from 0 to 20, got 21"),
    ],
)
def test_a_wrong_keyword_is_refused_by_its_name(setting: str, value: Any, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(**{setting: value})
    assert str(caught.value).startswith(setting)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("TASKFLOW_MAX_STEPS", "many"),
        ("TASKFLOW_MAX_EVENT_BYTES", "1 XB"),
        ("TASKFLOW_SEND_TIMEOUT", "soon"),
        ("TASKFLOW_STORE", "memory://"),
        ("TASKFLOW_RETRIES", "four"),
        ("TASKFLOW_DETERMINISM", "STRICT"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(variable: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^environment variable {variable}"):
        resolve({variable: text})


def test_a_step_output_must_fit_into_a_run() -> None:
    with pytest.raises(
        ConfigError, match=r"max_step_output_bytes \(4,194,304\) is more than max_run_bytes \(1,000\)"
    ):
        resolve(max_run_bytes=1_000)


@pytest.mark.parametrize("app_id", ["", "a b", "shop/eu", "shop.eu", "-shop", "x" * 65, "shop\n", "größe", 5])
def test_an_app_id_must_fit_into_keys_and_queue_names(app_id: Any) -> None:
    with pytest.raises(ConfigError, match="^app_id must have 1 to 64 of the characters"):
        Config.resolve(app_id, environ={})


def test_no_password_shows_in_a_config_or_an_error() -> None:
    config = resolve(broker="amqp://me:secret@mq//", store="redis://:secret@host")
    assert "secret" not in repr(config)
    assert "broker='amqp://me:***@mq//', store='redis://:***@host'" in repr(config)
    wrong: list[dict[str, Any]] = [{"broker": "me:secret@mq"}, {"store": "amqp://me:secret@mq//"}]
    for settings in wrong:
        with pytest.raises(ConfigError) as caught:
            resolve(**settings)
        assert "secret" not in str(caught.value)


def test_a_config_can_not_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        resolve().max_steps = 5  # type: ignore[misc]


def test_a_setting_that_does_not_exist_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(
        TypeError, match=r"TaskFlow\(\) has no keyword 'retension'; did you mean 'retention'\?"
    ):
        resolve(retension="1h")


def test_each_setting_has_a_field_that_holds_it_and_a_line_of_help() -> None:
    held = {field.name.removesuffix("_ms") for field in fields(Config)} - {"app_id"}
    told = (inspect.getdoc(Settings) or "").splitlines()
    lines = {line.split()[0] for line in told if "  " in line}
    assert held == Settings.__optional_keys__ == lines
