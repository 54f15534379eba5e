"""All flow control of one function: which options there are, which exclude each other, and their manifest. Rules S7, S7.9."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict, Unpack

from taskflow.errors import ConfigError
from taskflow.flow.batch import Batch
from taskflow.flow.cancel import Cancel, parse_cancels
from taskflow.flow.checks import check_key
from taskflow.flow.concurrency import Concurrency, parse_concurrency
from taskflow.flow.debounce import Debounce
from taskflow.flow.priority import Priority
from taskflow.flow.rate_limit import RateLimit
from taskflow.flow.singleton import Singleton
from taskflow.flow.throttle import Throttle
from taskflow.types import JsonObject


class FlowOptions(TypedDict, total=False):
    """The options of `@app.function` that are flow control (S7) or cancel runs (S6.1); None counts as left out.

    concurrency   how many steps execute at one time: a number, a Concurrency, or a list of two
    priority      which run goes first
    throttle      how often runs start; the excess waits
    rate_limit    how often events start runs; the excess is skipped
    debounce      one run once no event has come for a while
    batch_events  one run for many events
    singleton     one live run at a time
    idempotency   CEL over `event`: one run for each value in 24 h
    cancel        an event that cancels runs, or a list of up to 5
    """

    concurrency: int | Concurrency | Sequence[Concurrency] | None
    priority: Priority | None
    throttle: Throttle | None
    rate_limit: RateLimit | None
    debounce: Debounce | None
    batch_events: Batch | None
    singleton: Singleton | None
    idempotency: str | None
    cancel: Cancel | Sequence[Cancel] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowControl:
    """The flow control of one function; what is None or empty does not limit it.

    Raises ConfigError for what excludes each other.
    """

    concurrency: tuple[Concurrency, ...] = ()
    priority: Priority | None = None
    throttle: Throttle | None = None
    rate_limit: RateLimit | None = None
    debounce: Debounce | None = None
    batch: Batch | None = None
    singleton: Singleton | None = None
    idempotency: str | None = None  # CEL
    cancel: tuple[Cancel, ...] = ()

    def __post_init__(self) -> None:
        if self.batch is None:
            return
        others = {
            "idempotency": self.idempotency,
            "rate_limit": self.rate_limit,
            "debounce": self.debounce,
            "priority": self.priority,
            "cancel": self.cancel or None,
            "a keyed concurrency": any(limit.key is not None for limit in self.concurrency) or None,
        }
        for option, value in others.items():
            if value is not None:
                raise exclusion("batch_events", option, "a batch has many events, and this looks at one")

    @property
    def is_none(self) -> bool:
        """Whether nothing limits the function."""
        return self == NO_FLOW_CONTROL

    @property
    def keys(self) -> list[tuple[str, str]]:
        """The expressions of all keys, each with its option."""
        limits = {
            "throttle": self.throttle, "rate_limit": self.rate_limit, "debounce": self.debounce, "batch_events": self.batch,
            "singleton": self.singleton,
        }  # fmt: skip
        keys = [("concurrency.key", limit.key) for limit in self.concurrency]
        keys += [(f"{option}.key", limit.key) for option, limit in limits.items() if limit is not None]
        keys.append(("idempotency", self.idempotency))
        return [(option, key) for option, key in keys if key is not None]

    @classmethod
    def of(cls, **options: Unpack[FlowOptions]) -> FlowControl:
        """Check the options of `@app.function`. Raises ConfigError, which names option, value and remedy."""
        idempotency = options.get("idempotency")
        check_key("idempotency", idempotency)
        flow = cls(
            concurrency=parse_concurrency(options.get("concurrency")),
            priority=check_type(
                "priority", options.get("priority"), Priority, "Priority(run='event.data.rank')"
            ),
            throttle=check_type("throttle", options.get("throttle"), Throttle, "Throttle(100, '1m')"),
            rate_limit=check_type("rate_limit", options.get("rate_limit"), RateLimit, "RateLimit(10, '1h')"),
            debounce=check_type("debounce", options.get("debounce"), Debounce, "Debounce('30s')"),
            batch=check_type("batch_events", options.get("batch_events"), Batch, "Batch(100, '5s')"),
            singleton=check_type("singleton", options.get("singleton"), Singleton, "Singleton()"),
            idempotency=idempotency,
            cancel=parse_cancels(options.get("cancel")),
        )
        return NO_FLOW_CONTROL if flow.is_none else flow

    def manifest(self) -> JsonObject:
        """As a JSON object that holds what is set; `from_manifest` reads it."""
        throttle, rate_limit, debounce, batch = self.throttle, self.rate_limit, self.debounce, self.batch
        parts: dict[str, Any] = {
            "concurrency": [
                {"limit": limit.limit, "key": limit.key, "scope": limit.scope} for limit in self.concurrency
            ],
            "priority": self.priority and {"run": self.priority.run},
            "throttle": throttle
            and {
                "limit": throttle.limit,
                "period_ms": throttle.period_ms,
                "burst": throttle.burst,
                "key": throttle.key,
            },
            "rate_limit": rate_limit
            and {"limit": rate_limit.limit, "period_ms": rate_limit.period_ms, "key": rate_limit.key},
            "debounce": debounce
            and {"period_ms": debounce.period_ms, "key": debounce.key, "timeout_ms": debounce.timeout_ms},
            "batch_events": batch
            and {
                "max_size": batch.max_size,
                "timeout_ms": batch.timeout_ms,
                "key": batch.key,
                "if_exp": batch.if_exp,
            },
            "singleton": self.singleton and {"key": self.singleton.key, "mode": self.singleton.mode},
            "idempotency": self.idempotency,
            "cancel": [
                {
                    "event": each.event,
                    "match": each.match,
                    "if_exp": each.if_exp,
                    "timeout_ms": each.timeout_ms,
                }
                for each in self.cancel
            ],
        }
        return {name: part for name, part in parts.items() if part}

    @classmethod
    def from_manifest(cls, manifest: JsonObject) -> FlowControl:
        """What `manifest()` described. Raises ConfigError, KeyError or TypeError for anything else."""
        throttle, rate_limit = manifest.get("throttle"), manifest.get("rate_limit")
        debounce, batch = manifest.get("debounce"), manifest.get("batch_events")
        priority, singleton = manifest.get("priority"), manifest.get("singleton")
        return cls(
            concurrency=tuple(
                Concurrency(part["limit"], part["key"], part["scope"])
                for part in manifest.get("concurrency", ())
            ),
            priority=Priority(priority["run"]) if priority else None,
            throttle=throttle
            and Throttle(throttle["limit"], ms(throttle["period_ms"]), throttle["burst"], throttle["key"]),
            rate_limit=rate_limit
            and RateLimit(rate_limit["limit"], ms(rate_limit["period_ms"]), rate_limit["key"]),
            debounce=debounce
            and Debounce(
                ms(debounce["period_ms"]),
                debounce["key"],
                ms(debounce["timeout_ms"]) if debounce["timeout_ms"] is not None else None,
            ),
            batch=batch and Batch(batch["max_size"], ms(batch["timeout_ms"]), batch["key"], batch["if_exp"]),
            singleton=singleton and Singleton(singleton["key"], singleton["mode"]),
            idempotency=manifest.get("idempotency"),
            cancel=tuple(
                Cancel(part["event"], part["match"], part["if_exp"], optional_ms(part["timeout_ms"]))
                for part in manifest.get("cancel", ())
            ),
        )


NO_FLOW_CONTROL = FlowControl()


def exclusion(option: str, other: str, why: str) -> ConfigError:
    return ConfigError(f"{option} can't be used with {other}: {why}; leave one of them out")


def check_type(option: str, value: Any, kind: type[Any], example: str) -> Any:
    if value is not None and not isinstance(value, kind):
        raise ConfigError(f"{option} must be a {kind.__name__}, got {value!r:.80}; write {example}")
    return value


def optional_ms(value: int | None) -> timedelta | None:
    return None if value is None else ms(value)


def ms(value: int) -> timedelta:
    return timedelta(milliseconds=value)
