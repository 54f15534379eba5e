"""Signatures: calls of tasks that are put together before they are made, with `chain`, `group`, `chord` and `|`. Rule S15.3.

Each of them has a node, its JSON form, which is the input of the run that carries it out (`canvas`). Arguments are bound and
checked when the signature is put in its place, since there it is known whether it gets the result of another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    Protocol,
    TypeAlias,
    TypeVar,
    Unpack,
    cast,
    get_args,
    overload,
)

from taskflow.config import check_slug
from taskflow.errors import ConfigError
from taskflow.headers import Headers, find_header_problem
from taskflow.run import Run
from taskflow.tasks.call_options import CallOptions, CallSettings
from taskflow.tasks.calls import Maker, encode_call, start_calls
from taskflow.tasks.group_runs import GroupRuns
from taskflow.tasks.nodes import CANVAS
from taskflow.types import Duration, JsonObject
from taskflow.values.durations import parse_duration_ms
from taskflow.values.shape import ANY, Shape

if TYPE_CHECKING:
    from taskflow.connected_app import ConnectedApp

T = TypeVar("T", covariant=True)
U = TypeVar("U")

OnError: TypeAlias = Literal["wait", "stop", "collect"]


class SignedTask(Protocol):
    """What a signature needs of its task."""

    @property
    def id(self) -> str: ...

    @property
    def output(self) -> Shape: ...

    @property
    def _routed(self) -> str: ...

    def _home(self) -> ConnectedApp: ...

    def _sign(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], *, gets_input: bool
    ) -> tuple[JsonObject, Any]:
        """The arguments by name, and where the result of the task before goes. Raises TypeError."""
        ...

    async def _start_each(
        self, settings: CallSettings, calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]]
    ) -> list[Run[Any]]:
        """Make the runs of calls that have the same settings."""
        ...


class Canvas(Generic[T]):
    """What can be part of a canvas: a signature, a chain, a group or a chord; `T` is the type of its result."""

    def _node(self, *, gets_input: bool) -> JsonObject:
        """Its JSON form. `gets_input`: it stands behind another one, whose result it gets. Raises TypeError, ConfigError."""
        raise NotImplementedError

    @property
    def _shape(self) -> Shape:
        """The shape of its result."""
        return ANY

    @property
    def _app(self) -> ConnectedApp:
        """The app that carries it out: that of its first task. Raises ConfigError."""
        raise NotImplementedError

    def delay(
        self, *, on_failure: Canvas[Any] | None = None, **options: Unpack[CallOptions]
    ) -> Run[T]:  # fmt: skip
        """Carry it out in a run of its own; return the handle, whose result is that of the whole. Rule S15.3.

            run = (fetch.s("cat.jpg") | resize.s(800)).delay(on_failure=report.s())

        `on_failure` is called once if it fails, with {"run_id", "node", "name", "message"}. The other keywords are those of
        `CallOptions`. Whoever cancels the run cancels all of it. Raises as `Task.delay`, and TypeError for a call that does not
        fit its place.
        """
        return self._app._link.block_on(lambda: self.adelay(on_failure=on_failure, **options))

    async def adelay(
        self, *, on_failure: Canvas[Any] | None = None, **options: Unpack[CallOptions]
    ) -> Run[T]:  # fmt: skip
        """See `delay`."""
        home, settings = self._app, CallSettings.of(**options)
        data = {"canvas": self._node(gets_input=False)}
        if on_failure is not None:
            data["on_failure"] = on_failure._node(gets_input=True)
        link, spec = home._link, home.functions[f"{home.id}/{CANVAS}"].spec
        now_ms = link.clock.now_ms()
        # Its calls don't travel by the broker, whose messages are small.
        max_bytes = link.config.max_step_output_bytes
        call = encode_call(
            spec,
            data,
            settings,
            Maker.here(home._functions.hooks),
            codecs=link.codecs,
            now_ms=now_ms,
            max_bytes=max_bytes,
        )
        (run_id,) = await start_calls(link, spec, settings, (call,), now_ms=now_ms)
        return Run(run_id, link, self._shape)

    def __or__(self, other: Canvas[U]) -> Canvas[U]:
        """What follows gets the result: `add.s(1, 2) | double.s()`. A group that something follows is a chord."""
        if not isinstance(other, Canvas):
            return NotImplemented
        return Chain([*links_of(self), *links_of(other)])


class Signature(Canvas[T]):
    """A call that has not been made: `add.s(2)`. Behind another one it gets that one's result before its arguments. Rule S15.3."""

    def __init__(
        self, task: SignedTask, args: Sequence[Any], kwargs: Mapping[str, Any], *, is_immutable: bool = False,
        settings: JsonObject | None = None,
    ) -> None:  # fmt: skip
        self._task = task
        self._args = tuple(args)
        self._kwargs = dict(kwargs)
        self._is_immutable = is_immutable
        self._settings = settings or {}

    def __repr__(self) -> str:
        return f"<Signature {self._task.id}>"

    def set(
        self, *, countdown: Duration | None = None, queue: str | None = None, headers: Headers | None = None
    ) -> Signature[T]:
        """The same call, after a time, in a queue, or with headers of its own. Raises ConfigError, InvalidDuration."""
        settings = dict(self._settings)
        if countdown is not None:
            settings["countdown_ms"] = parse_duration_ms(countdown, what="countdown")
        if queue is not None:
            settings["queue"] = check_slug(queue, what="queue")
        if headers is not None:
            if problem := find_header_problem(headers):
                raise ConfigError(problem)
            settings["headers"] = dict(headers)
        return Signature(
            self._task, self._args, self._kwargs, is_immutable=self._is_immutable, settings=settings
        )

    def _node(self, *, gets_input: bool) -> JsonObject:
        data, place = self._task._sign(
            self._args, self._kwargs, gets_input=gets_input and not self._is_immutable
        )
        node: JsonObject = {"call": self._task.id, "data": data, **self._settings}
        if "queue" not in node and (queue := self._task._routed):
            node["queue"] = queue
        return node if place is None else node | {"takes": place}

    @property
    def _shape(self) -> Shape:
        return self._task.output

    @property
    def _app(self) -> ConnectedApp:
        return self._task._home()

    async def adelay(
        self, *, on_failure: Canvas[Any] | None = None, **options: Unpack[CallOptions]
    ) -> Run[T]:  # fmt: skip
        """Have the task called; see `Canvas.delay`. Only with `on_failure` is it a canvas."""
        if on_failure is not None:
            return await super().adelay(on_failure=on_failure, **options)
        settings = CallSettings.of(**self._call_options(options))
        return (await self._task._start_each(settings, [(self._args, self._kwargs)]))[0]

    def _call_options(self, options: CallOptions) -> CallOptions:
        """The options of its call, if `options` are those of all members of its group."""
        own = dict(self._settings)
        if "countdown_ms" in own:
            own["countdown"] = own.pop("countdown_ms") / 1000
        return cast(CallOptions, {**options, **own})


class Chain(Canvas[T]):
    """Links one after another: each gets the result of the one before. Its result is that of the last one. Rule S15.3."""

    def __init__(self, links: Sequence[Canvas[Any]]) -> None:
        """Raises ConfigError for an empty chain."""
        if not links:
            raise ConfigError("chain() needs at least one call")
        self._links = list(links)

    def __repr__(self) -> str:
        return f"<Chain of {len(self._links)}>"

    def _node(self, *, gets_input: bool) -> JsonObject:
        return {
            "chain": [
                link._node(gets_input=gets_input or place > 0) for place, link in enumerate(self._links)
            ]
        }

    @property
    def _shape(self) -> Shape:
        return self._links[-1]._shape

    @property
    def _app(self) -> ConnectedApp:
        return self._links[0]._app


class Group(Canvas[list[T]]):
    """Members side by side. Its result is the list of theirs, in their order: always a list, whatever their number. Rule S15.3."""

    def __init__(self, members: Iterable[Canvas[T]], on_error: OnError = "wait") -> None:
        if on_error not in get_args(OnError):
            raise ConfigError(f"on_error must be one of {get_args(OnError)}, got {on_error!r:.80}")
        self._members = list(members)
        self._on_error = on_error
        for member in self._members:
            if not isinstance(member, Canvas):
                raise TypeError(f"group() takes signatures, as task.s(...), got {member!r:.80}")

    def __repr__(self) -> str:
        return f"<Group of {len(self._members)}>"

    def _node(self, *, gets_input: bool) -> JsonObject:
        members = [member._node(gets_input=gets_input) for member in self._members]
        return {"group": members, "on_error": self._on_error}

    # A group alone has a run for each member and none for the whole, so its handle is another one.
    def delay(  # type: ignore[override]
        self, *, on_failure: Canvas[Any] | None = None, **options: Unpack[CallOptions]
    ) -> GroupRuns[T]:  # fmt: skip
        """Have all members called, each by itself; return their handles. Members that are no single calls are canvases. S15.3.

        The keywords are those of `CallOptions`, for each member; `on_failure` is for canvases. Raises as `Task.delay`.
        """
        return self._app._link.block_on(lambda: self.adelay(on_failure=on_failure, **options))

    async def adelay(  # type: ignore[override]
        self, *, on_failure: Canvas[Any] | None = None, **options: Unpack[CallOptions]
    ) -> GroupRuns[T]:  # fmt: skip
        """See `delay`."""
        if options.get("id") is not None:
            raise ConfigError("an id stands for one call: a group alone takes none; a chord does")
        # All of them are checked before the first is made.
        self._node(gets_input=False)
        runs: dict[int, Run[Any]] = {}
        alike: dict[tuple[int, str], list[int]] = {}
        for place, member in enumerate(self._members):
            if isinstance(member, Signature) and on_failure is None:
                alike.setdefault((id(member._task), repr(member._settings)), []).append(place)
            else:
                runs[place] = await Canvas.adelay(member, on_failure=on_failure, **options)
        for places in alike.values():
            calls = [self._members[place] for place in places]
            first = cast(Signature[T], calls[0])
            settings = CallSettings.of(**first._call_options(options))
            made = await first._task._start_each(
                settings, [(each._args, each._kwargs) for each in calls if isinstance(each, Signature)]
            )
            runs |= zip(places, made, strict=True)
        return GroupRuns([runs[place] for place in range(len(runs))], self._app._link)

    @property
    def _shape(self) -> Shape:
        if self._on_error == "collect":
            return ANY
        shapes = [member._shape for member in self._members]
        if not any(shape.load for shape in shapes):
            return ANY
        return Shape("list", load=lambda values: [
            value if shape.load is None else shape.load(value) for shape, value in zip(shapes, values, strict=True)
        ])  # fmt: skip

    @property
    def _app(self) -> ConnectedApp:
        if not self._members:
            raise ConfigError("an empty group belongs to no app: begin the canvas with a call")
        return self._members[0]._app


class Chord(Canvas[T]):
    """A group, and a body that gets the list of its results. Rule S15.3."""

    def __init__(self, header: Group[Any], body: Canvas[T]) -> None:
        self._header = header
        self._body = body

    def __repr__(self) -> str:
        return f"<Chord of {len(self._header._members)}>"

    def _node(self, *, gets_input: bool) -> JsonObject:
        return {"chain": [self._header._node(gets_input=gets_input), self._body._node(gets_input=True)]}

    @property
    def _shape(self) -> Shape:
        return self._body._shape

    @property
    def _app(self) -> ConnectedApp:
        return (self._header if self._header._members else self._body)._app


def links_of(canvas: Canvas[Any]) -> list[Canvas[Any]]:
    return canvas._links if isinstance(canvas, Chain) else [canvas]


@overload
def chain(first: Canvas[Any], second: Canvas[U], /) -> Canvas[U]: ...


@overload
def chain(first: Canvas[Any], second: Canvas[Any], third: Canvas[U], /) -> Canvas[U]: ...


@overload
def chain(*links: Canvas[Any]) -> Canvas[Any]: ...


def chain(*links: Canvas[Any]) -> Canvas[Any]:
    """Calls one after another, each of which gets the result of the one before: as `a.s() | b.s()`. Rule S15.3.

        chain(fetch.s("cat.jpg"), resize.s(800), store.s())

    A link that fails ends the chain: the rest is not reached. Raises ConfigError for no link at all.
    """
    return Chain([each for link in links for each in links_of(link)])


@overload
def group(members: Iterable[Canvas[U]], /, *, on_error: OnError = "wait") -> Group[U]: ...


@overload
def group(*members: Canvas[U], on_error: OnError = "wait") -> Group[U]: ...


def group(*members: Any, on_error: OnError = "wait") -> Group[Any]:
    """Calls side by side. Rule S15.3.

        group(resize.s(photo) for photo in photos)

    As part of a canvas its result is the list of the results. When members fail, `on_error` says what happens: "wait" (all end,
    then it fails with a ChordError that lists all failures), "stop" (the others are cancelled at once), or "collect" (it completes,
    and the list has {"error": {"name": ..., "message": ...}} for each that failed).
    """
    if len(members) == 1 and not isinstance(members[0], Canvas):
        members = tuple(cast(Iterable[Any], members[0]))
    return Group(members, on_error)


@overload
def chord(
    header: Group[Any] | Iterable[Canvas[Any]], body: Canvas[U], *, on_error: OnError = "wait"
) -> Canvas[U]: ...


@overload
def chord(
    header: Group[Any] | Iterable[Canvas[Any]], body: None = None, *, on_error: OnError = "wait"
) -> Callable[[Canvas[U]], Canvas[U]]: ...


def chord(header: Any, body: Canvas[Any] | None = None, *, on_error: OnError = "wait") -> Any:
    """Calls side by side, and one that gets the list of their results. Rule S15.3.

        chord([add.s(n, n) for n in range(100)], total.s())

    The body gets a list, in the order of the members, [] if there are none. `on_error` is as for `group`.
    """
    members = header._members if isinstance(header, Group) else header
    made = Group(members, on_error)
    return Chord(made, body) if body is not None else lambda body: Chord(made, body)
