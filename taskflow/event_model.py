"""EventModel: events as pydantic models. Needs pydantic 2, which `pip install 'taskflow-durable[pydantic]'` brings. Rule S11.2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from taskflow.errors import ConfigError, InvalidEvent, SerializationError
from taskflow.event import check_type_name
from taskflow.event_type import TypedEvent
from taskflow.types import JsonObject
from taskflow.values.stored import dump

try:
    from pydantic import VERSION, BaseModel, ValidationError
except ImportError as error:
    raise ImportError(
        "taskflow.EventModel needs pydantic 2: pip install 'taskflow-durable[pydantic]'"
    ) from error
if VERSION.startswith("1."):
    raise ImportError(
        f"taskflow.EventModel needs pydantic 2, but {VERSION} is installed: pip install 'taskflow-durable[pydantic]'"
    )

F = TypeVar("F")

UPGRADE = "__taskflow_upgrade__"
SHOWN_CHARS = 60  # of a value that does not fit


def upgrade_from(version: str, *, to: str | None = None) -> Callable[[F], F]:
    """Mark the classmethod of an EventModel that turns data of an older version into that of version `to`, by default the present.

    class OrderCreated(EventModel, name="shop/order.created", v="3"):
        order_id: str
        cents: int

        @upgrade_from("2")
        @classmethod
        def from_v2(cls, data: dict[str, Any]) -> dict[str, Any]:
            return {**data, "cents": round(data["total"] * 100)}

        @upgrade_from("1", to="2")
        @classmethod
        def from_v1(cls, data: dict[str, Any]) -> dict[str, Any]:
            return {**data, "order_id": str(data["id"])}
    """

    def mark(method: F) -> F:
        if not isinstance(method, classmethod):
            raise ConfigError(
                f"@upgrade_from({version!r}) must stand above @classmethod, but marks {method!r:.80}"
            )
        setattr(method.__func__, UPGRADE, (version, to))
        return method

    return mark


class EventModel(BaseModel, TypedEvent):
    """Base of events whose data is a pydantic model. Rule S11.2.

        class OrderCreated(EventModel, name="shop/order.created", v="2"):
            order_id: str
            items: list[str]

        @app.function(trigger=OrderCreated)
        async def fulfil(ctx: Context[Step, OrderCreated]) -> None:
            ctx.event.data.order_id

        app.send(OrderCreated(order_id="A-1", items=["tea"]))

    `name` is the name of the events, `v` the version of their data, "1" by default. A class without a name is no event, but a base
    for others. `upgrade_from` reads older versions. Raises ConfigError when the class is made.
    """

    def __init_subclass__(cls, *, name: str | None = None, v: str = "1", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)

    @classmethod
    def __pydantic_init_subclass__(cls, *, name: str | None = None, v: str = "1", **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.__taskflow_event__ = None if name is None else ModelType(cls, name, v)


class ModelType:
    """The EventType of a pydantic model."""

    __slots__ = ("json_schema", "model", "name", "upgrades", "v")

    def __init__(self, model: type[EventModel], name: str, v: str) -> None:
        self.model = model
        self.name = name
        self.v = v
        self.upgrades = upgrades_of(model)
        self.json_schema: JsonObject | None = None
        check_type_name(name, v, what=self.place)
        self.check_upgrades()

    @property
    def place(self) -> str:
        return f"{self.model.__module__}.{self.model.__qualname__}"

    def check_upgrades(self) -> None:
        """Raise ConfigError unless each upgrade leads to the present version."""
        for version in self.upgrades:
            at, left = version, set(self.upgrades)
            while at in left:
                left.discard(at)
                at = self.upgrades[at][0] or self.v
            if at != self.v or version == self.v:
                raise ConfigError(
                    f"{self.place}: @upgrade_from({version!r}) leads to version {at!r}, but must lead to version {self.v!r}, by "
                    "further upgrades if need be"
                )

    def schema(self) -> JsonObject:
        if self.json_schema is None:
            try:
                self.json_schema = self.model.model_json_schema()
            except Exception as error:  # of pydantic, or of user code that it asks
                raise ConfigError(
                    f"{self.place}: no JSON Schema can be made of it ({type(error).__name__}: {error}); give its fields types "
                    "that JSON can hold"
                ) from error
        return self.json_schema

    def parse(self, data: JsonObject, v: str | None) -> Any:
        return self.read(self.upgraded(data, self.v if v is None else v))

    def read(self, data: JsonObject) -> Any:
        """The model of data of the present version. Raises InvalidEvent."""
        try:
            return self.model.model_validate_json(dump(data, what=f"event {self.name!r}"))
        except ValidationError as error:
            raise self.misfit(error) from None
        except SerializationError as error:
            raise InvalidEvent(f"{self.does_not_fit}: {error}") from None

    def misfit(self, error: ValidationError) -> InvalidEvent:
        hide_input = bool(self.model.model_config.get("hide_input_in_errors"))
        return InvalidEvent(f"{self.does_not_fit}: {problems(error, hide_input=hide_input)}")

    @property
    def does_not_fit(self) -> str:
        return f"event {self.name!r} does not fit {self.model.__qualname__} (version {self.v})"

    def upgraded(self, data: JsonObject, v: str) -> JsonObject:
        """The data in the present version. Raises InvalidEvent for a version that nothing reads, and for an upgrade that fails."""
        given = v
        while v != self.v:
            if v not in self.upgrades:
                older = ", ".join(self.upgrades)
                raise InvalidEvent(
                    f"event {self.name!r} has version {given!r}, but {self.place} reads version {self.v!r}"
                    f"{f' and, by upgrades, {older}' if older else ''}: "
                    f"deploy the code that knows it, or write @upgrade_from({given!r})"
                )
            to, method = self.upgrades[v]
            try:
                data = getattr(self.model, method)(dict(data))
            except Exception as error:  # of user code
                raise InvalidEvent(
                    f"event {self.name!r} of version {given!r}: {self.model.__qualname__}.{method} failed: "
                    f"{type(error).__name__}: {error}"
                ) from error
            if not isinstance(data, dict):
                raise InvalidEvent(
                    f"event {self.name!r} of version {given!r}: {self.model.__qualname__}.{method} must return a dict, but "
                    f"returned a {type(data).__name__}"
                )
            v = to or self.v
        return data

    def dump(self, value: Any) -> JsonObject:
        """The data of an event, after it was read back: a field that was set since may be wrong, or written as nobody reads it."""
        text = value.model_dump_json(by_alias=True, warnings="none")
        try:
            self.model.model_validate_json(text)
        except ValidationError as error:
            raise self.misfit(error) from None
        data: JsonObject = orjson.loads(text)
        return data


def upgrades_of(model: type[EventModel]) -> dict[str, tuple[str | None, str]]:
    """By the version that is read: the version that comes of it (None: the present one), and the name of the classmethod."""
    found: dict[str, tuple[str | None, str]] = {}
    for kind in reversed(model.__mro__):
        for method, value in vars(kind).items():
            mark = getattr(value.__func__, UPGRADE, None) if isinstance(value, classmethod) else None
            if mark is not None:
                version, to = mark
                found[version] = (to, method)
    return found


def problems(error: ValidationError, *, hide_input: bool) -> str:
    """Every problem of a validation: "order_id: Field required; items[0].count: Input should be greater than 0, got -1"."""
    told = []
    for each in error.errors(include_url=False, include_context=False):
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in each["loc"]).lstrip(
            "."
        )
        got = "" if hide_input or each["type"] == "missing" else f", got {each.get('input')!r:.{SHOWN_CHARS}}"
        told.append(f"{where or 'data'}: {each['msg']}{got}")
    return "; ".join(told)
