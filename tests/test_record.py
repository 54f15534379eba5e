"""A record is what `@dataclass(frozen=True, slots=True)` makes, for less."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar

import pytest

from taskflow.values.record import record


@record
class Point:
    """A point."""

    kind: ClassVar[str] = "point"
    x: int
    y: int = 0
    label: str = field(default="", compare=False)
    tags: list[str] = field(default_factory=list, repr=False, compare=False)
    size: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", abs(self.x) + abs(self.y))


@record(kw_only=True)
class Named:
    """A record whose arguments have names."""

    name: str
    nick: str = "none"


@record
class Shy:
    """A record that shows nothing."""

    secret: str

    def __repr__(self) -> str:
        return "<Shy>"


@record
class Empty:
    """A record without fields."""


@dataclass(frozen=True, slots=True)
class Standard:
    """What `Plain` must be like."""

    a: int
    b: str = "b"
    c: float = field(default=1.5, kw_only=True)


@record
class Plain:
    """The same, as a record."""

    a: int
    b: str = "b"
    c: float = field(default=1.5, kw_only=True)


@dataclass(frozen=True, slots=True)
class Weighted(Point):
    """A dataclass that inherits from a record."""

    weight: int = 1


def test_it_takes_its_fields_by_position_and_name_with_their_defaults() -> None:
    point = Point(3, y=-4)
    assert (point.x, point.y, point.label, point.tags, point.size) == (3, -4, "", [], 7)
    assert point.tags is not Point(3).tags
    assert Named(name="ann").nick == "none"
    with pytest.raises(TypeError, match="positional"):
        Named("ann")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"Point.__init__\(\) missing 1 required positional argument: 'x'"):
        Point()  # type: ignore[call-arg]


def test_it_can_not_be_changed_and_has_no_other_attributes() -> None:
    point = Point(1)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'x'"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'x'"):
        del point.x
    assert not hasattr(point, "__dict__")


def test_equal_are_records_of_one_class_whose_compared_fields_are_equal() -> None:
    assert Point(1, 2, "a") == Point(1, 2, "b")
    assert hash(Point(1, 2, "a")) == hash(Point(1, 2, "b"))
    assert Point(1, 2) != Point(1, 3)
    plain: object = Plain(1)
    assert plain != Standard(1)
    assert Empty() == Empty()


def test_it_shows_its_fields_unless_it_says_otherwise() -> None:
    assert repr(Point(1, label="here")).startswith("Point(x=1, y=0, label='here')")
    assert repr(Shy("x")) == "<Shy>"


def test_it_is_a_dataclass_for_whoever_asks() -> None:
    kind: object = Point
    assert is_dataclass(kind)
    assert [each.name for each in fields(Point)] == ["x", "y", "label", "tags", "size"]
    assert replace(Point(1, 2), y=5) == Point(1, 5)
    assert str(inspect.signature(Plain)) == str(inspect.signature(Standard))
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)


def test_a_frozen_dataclass_may_inherit_from_it() -> None:
    heavy = Weighted(3, 4, weight=9)
    assert (heavy.size, heavy.weight) == (7, 9)
    assert heavy != Point(3, 4)
    assert heavy == Weighted(3, 4, weight=9)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_copies_and_pickles_are_equal(again: Any) -> None:
    point = Point(1, 2, "a", ["b"])
    made = again(point)
    assert made == point
    assert (made.label, made.tags, made.size) == ("a", ["b"], 3)
