"""Operation: one thing that may be asked of a deployment or done to it, and the desk at which it is carried out. Rule S14.1."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeAlias, get_type_hints

from taskflow.connections import Connections
from taskflow.errors import ConfigError, TaskFlowError
from taskflow.function import Function
from taskflow.runs.control import RunControl
from taskflow.runs.reasons import Moment
from taskflow.store.store import Store
from taskflow.web.catalogue.fields import read_request
from taskflow.web.catalogue.post import Post
from taskflow.web.catalogue.problems import COMMON, Kind, Problem, problem_of

Method: TypeAlias = Literal["GET", "POST", "DELETE"]


class Scope(StrEnum):
    """What a key allows. Each scope has those before it."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"

    def includes(self, other: Scope) -> bool:
        scopes = list(Scope)
        return scopes.index(self) >= scopes.index(other)


@dataclass(frozen=True, slots=True)
class Desk:
    """What an operation works with: connections, what sends events, and the functions whose code is here, by full id.

    `uid` stands for what the operation makes: a request that is repeated has the same, so nothing is made twice. `who` asks for it.
    """

    link: Connections
    post: Post
    functions: Mapping[str, Function[Any, Any]] = field(default_factory=dict)
    uid: str | None = None
    who: str = ""

    @property
    def control(self) -> RunControl:
        return self.link.control(self.functions)

    @asynccontextmanager
    async def store(self) -> AsyncIterator[tuple[Store, Moment]]:
        """The store within a deadline, and the time. Raises StoreUnavailable."""
        async with self.link.session().deadline() as store:
            yield store, Moment(self.link.clock.now_ms())


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation: its name, its address under /api/v1, who may call it, and what it takes, answers and refuses.

    `is_noted`: whether the audit list has it. `work` gets a `request` and returns an `answer` in plain JSON types.
    Raises Problem and TaskFlowError.
    """

    name: str
    method: Method
    path: str
    scope: Scope
    request: type
    answer: Any
    errors: Sequence[Kind]
    work: Callable[[Desk, Any], Awaitable[Any]]
    is_noted: bool

    @property
    def summary(self) -> str:
        """The first line of its description."""
        return (inspect.getdoc(self.work) or "").partition("\n")[0]

    @property
    def description(self) -> str:
        return inspect.getdoc(self.work) or ""

    @property
    def is_write(self) -> bool:
        return self.method != "GET"

    async def call(self, desk: Desk, given: Mapping[str, Any]) -> Any:
        """Carry it out for the fields of a request, in plain JSON types. Raises Problem."""
        request: Any = read_request(self.request, given)
        try:
            return await self.work(desk, request)
        except TaskFlowError as error:
            raise problem_of(error) from error


def operation(
    name: str, method: Method, path: str, scope: Scope, *errors: Kind, is_noted: bool = True
) -> Callable[[Callable[[Desk, Any], Awaitable[Any]]], Operation]:
    """Make an operation of a coroutine function, whose annotations name the types of request and answer."""

    def make(work: Callable[[Desk, Any], Awaitable[Any]]) -> Operation:
        hints = get_type_hints(work)
        return Operation(
            name=name, method=method, path=path, scope=scope, request=hints["request"], answer=hints["return"],
            errors=(*COMMON, *errors), work=work,
            is_noted=is_noted and method != "GET",
        )  # fmt: skip

    return make


@asynccontextmanager
async def unknown_is(kind: Kind) -> AsyncIterator[None]:
    """Within the block, an error that names a function or queue which does not exist is a problem of this kind."""
    try:
        yield
    except ConfigError as error:
        raise Problem(kind, str(error)) from error
