"""Parameters: what a task takes, as its workers have registered it, so that who has not its code can call it too. Rule S15.1."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from taskflow.types import JsonObject
from taskflow.values.keywords import did_you_mean
from taskflow.values.record import record

Kind: TypeAlias = Literal["positional", "either", "list", "keyword", "object"]

KINDS: dict[Any, Kind] = {
    inspect.Parameter.POSITIONAL_ONLY: "positional",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "either",
    inspect.Parameter.VAR_POSITIONAL: "list",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_KEYWORD: "object",
}


@record
class Parameter:
    """One parameter. The `kind` "list" is `*args`, "object" is `**kwargs`, and "either" may be given by place or by name."""

    name: str
    kind: Kind = "either"
    is_required: bool = False


class Parameters:
    """All parameters of a task: they turn a call into an object with a member for each argument, and back."""

    __slots__ = ("all", "by_name", "by_place", "gathers", "gathers_named", "is_plain", "required")

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        self.all = tuple(parameters)
        self.by_place = [each.name for each in self.all if each.kind in ("positional", "either")]
        self.by_name = frozenset(each.name for each in self.all if each.kind in ("either", "keyword"))
        self.required = [each.name for each in self.all if each.is_required]
        self.gathers = next((each.name for each in self.all if each.kind == "list"), None)
        self.gathers_named = next((each.name for each in self.all if each.kind == "object"), None)
        # Whether each argument can be given by its name.
        self.is_plain = all(each.kind in ("either", "keyword") for each in self.all)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any], *, what: str) -> JsonObject:
        """The arguments of a call by the names of the parameters; defaults are left out. Raises TypeError, which names `what`."""
        given: JsonObject = dict(zip(self.by_place, args, strict=False))
        if len(args) > len(self.by_place):
            if self.gathers is None:
                raise TypeError(
                    f"{what} takes {self.described}, but was called with {len(args)} positional arguments"
                )
            given[self.gathers] = list(args[len(self.by_place) :])
        if kwargs:
            self.bind_named(given, kwargs, what)
        missing = [name for name in self.required if name not in given]
        if missing:
            raise TypeError(
                f"{what} takes {self.described}; the call gives nothing for {', '.join(map(repr, missing))}"
            )
        return given

    def bind_named(self, given: JsonObject, kwargs: Mapping[str, Any], what: str) -> None:
        others: JsonObject = {}
        for name, value in kwargs.items():
            if name not in self.by_name:
                if self.gathers_named is None:
                    raise TypeError(f"{what} has no parameter {name!r}{did_you_mean(name, self.by_name)}")
                others[name] = value
            elif name in given:
                raise TypeError(f"{what} was called with two values for {name!r}: by place and by name")
            else:
                given[name] = value
        if others and self.gathers_named is not None:
            given[self.gathers_named] = others

    def spread(self, given: JsonObject) -> tuple[list[Any], JsonObject]:
        """The arguments with which to call the code: by place, and by name."""
        if self.is_plain:
            return [], given
        args: list[Any] = []
        rest = dict(given)
        # A value can't be given by place behind one that is left to its default.
        by_place = self.by_place if self.gathers in given else [
            each.name for each in self.all if each.kind == "positional"
        ]  # fmt: skip
        for name in by_place:
            if name not in rest:
                break
            args.append(rest.pop(name))
        if self.gathers is not None:
            args += rest.pop(self.gathers, ())
        if self.gathers_named is not None:
            rest |= rest.pop(self.gathers_named, {})
        return args, rest

    @property
    def described(self) -> str:
        """The parameters as they are written: "(sku, count=..., *rest)"."""
        marks = {"list": "*", "object": "**"}
        shown = []
        for each in self.all:
            default = "" if each.is_required or each.kind in marks else "=..."
            shown.append(f"{marks.get(each.kind, '')}{each.name}{default}")
        return f"({', '.join(shown)})"
