"""Expressions of the compiled subset, and events to evaluate them on, as strategies of hypothesis.

Half of the expressions fit their types (a sum takes numbers) and mostly have values; the others mix everything.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from taskflow.expressions.tree import MAX_INT, MIN_INT

Wire = dict[str, Any]
Sources = st.SearchStrategy[str]

NAMES = ("a", "b", "c")
TEXTS = (
    "", "a", "abc", "DE", "1", "-7", " 5 ", "1_0", "0x1F", "-0x2", "0x", "1.5", "1e3", "inf", "nan", "True", "null", "ä€😀",
    "a.c",
)  # fmt: skip
INTS = (0, 1, -1, 2, 3, -7, 100, MAX_INT, MIN_INT, MAX_INT + 1, 2**64 - 1, 2**53 + 1)
DOUBLES = (0.0, -0.0, 0.5, 1.0, -7.0, 2.5, 1e16, 1e300, 5e-324, 9007199254740993.0, 9.223372036854775807e18)
SCALARS: tuple[Any, ...] = (None, True, False, *TEXTS, *INTS, *DOUBLES)
VALUES: tuple[Any, ...] = (
    *SCALARS, [], [1], [1.0, "a"], ["a", None], [[1], {"a": 1}], [True], {}, {"a": 1}, {"a": 1.0, "b": None}, {"1": [1]},
)  # fmt: skip

texts_of_data = st.sampled_from(TEXTS) | st.text(max_size=3)
numbers_of_data = (
    st.sampled_from(INTS)
    | st.sampled_from(DOUBLES)
    | st.integers(MIN_INT, 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)
values_of_data = st.recursive(
    st.sampled_from(SCALARS) | texts_of_data | numbers_of_data,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=4,
)


def events() -> st.SearchStrategy[Wire]:
    """Wire objects: `data` has fields of a known type, and some of any."""
    data = st.fixed_dictionaries(
        {
            "l": st.lists(values_of_data, max_size=4),
            "n": numbers_of_data,
            "i": st.integers(-9, 9),
            "s": texts_of_data,
            "yes": st.booleans(),
        },
        optional=dict.fromkeys(NAMES, values_of_data),
    )
    return st.fixed_dictionaries(
        {"name": texts_of_data, "ts": st.integers(0, 10**13), "data": data},
        optional={"user": st.dictionaries(st.sampled_from(NAMES), values_of_data), "v": st.just("1")},
    )


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def written(form: str, *parts: Sources) -> Sources:
    """`form` with each {} filled."""
    return st.tuples(*parts).map(lambda each: form.format(*each))


def folded(strategy: Sources) -> Sources:
    """The same strategy with a short name: hypothesis writes strategies out, and warns when that gets long."""

    @st.composite
    def folded_strategy(draw: st.DrawFn) -> str:
        return draw(strategy)

    return folded_strategy()


int_literals = st.sampled_from(
    ("0", "1", "-1", "7", "0x1F", "9223372036854775807", "-9223372036854775808")
) | st.integers(-20, 20).map(str)
double_literals = st.sampled_from(("0.0", "1.0", "-0.5", "2.5", "1e300", ".5", "1e3"))
text_literals = st.sampled_from(TEXTS).map(quoted) | st.sampled_from(
    ("'it\\'s'", 'r"a\\b"', "'\\u00e4'", "'\\x41'")
)
bool_literals = st.sampled_from(("true", "false"))
number_paths = st.sampled_from(
    ("event.data.n", "async.data.n", "event.data.i", "async['data'].i", "event.ts")
)
text_paths = st.sampled_from(("event.data.s", "async.data.s", "event.name", 'event["name"]'))
any_paths = st.one_of(
    written("event.data.{}", st.sampled_from(NAMES)),
    written("async.data.{}", st.sampled_from(NAMES)),
    written("event.data.{}.{}", st.sampled_from(NAMES), st.sampled_from(NAMES)),
    written('event["data"]["{}"].{}', st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.sampled_from(("event.user", "event.v", "event.user.a", "event.data", "async.name")),
)
any_literals = st.one_of(
    int_literals,
    double_literals,
    text_literals,
    bool_literals,
    st.sampled_from(("null", "[]", "{}", '["a", "DE"]', "[1, 2.5, null]")),
)

ARITHMETIC = ("+", "-", "*", "/", "%")
RELATIONS = ("==", "!=", "<", "<=", ">", ">=")
SIGNS = (*ARITHMETIC, *RELATIONS, "in", "&&", "||")
TEXT_TESTS = ("startsWith", "endsWith", "contains", "matches")

numbers = st.recursive(
    int_literals | double_literals | number_paths,
    lambda inner: st.one_of(
        written("({} {} {})", inner, st.sampled_from(ARITHMETIC), inner),
        written("(-{})", inner),
        written("int({})", inner),
        written("double({})", inner),
        written("({} > {} ? {} : {})", inner, inner, inner, inner),
        written("[{}, {}][{}]", inner, inner, st.sampled_from(("0", "1", "-1", "2"))),
    ),
    max_leaves=4,
)
texts = st.recursive(
    text_literals | text_paths,
    lambda inner: st.one_of(
        written("({} + {})", inner, inner),
        written("string({})", numbers | bool_literals),
        written("({} == {} ? {} : {})", inner, inner, inner, inner),
        written("{{'a': {}}}.a", inner),
    ),
    max_leaves=3,
)
conditions = st.recursive(
    st.one_of(
        bool_literals,
        st.sampled_from(("event.data.yes", "async.data.yes")),
        written("{} {} {}", numbers, st.sampled_from(RELATIONS), numbers),
        written("{} {} {}", texts, st.sampled_from(RELATIONS), texts),
        written("{} {} {}", any_paths, st.sampled_from(("==", "!=")), any_literals | any_paths),
        written("{}.{}({})", texts, st.sampled_from(TEXT_TESTS), texts),
        written("{} in [{}, {}]", texts, texts, texts),
        written("{} in {}", any_literals, any_paths),
        written("size({}) > {}", texts | any_paths, numbers),
        written("has({})", any_paths),
    ),
    lambda inner: st.one_of(
        written("({} && {})", inner, inner),
        written("({} || {})", inner, inner),
        written("!({})", inner),
        written("({} ? {} : {})", inner, inner, inner),
    ),
    max_leaves=5,
)

# What a macro looks through; `x` and `y` are what it binds.
lists = folded(st.one_of(
    st.sampled_from(
        ("[]", "[1, 2, 3]", '["a", "abc", "DE"]', "[true, false]", "[{}, {'a': 1}, {'a': 'a'}]", "[[1], [2, 3], []]", "[null]",
         "{'a': 1, 'b': 2}", "event.data", "event.data.l", "async.data.l")
    ),
    any_paths,
    written("[{}, {}]", numbers, numbers),
    written("[{}, {}, {}]", any_paths, texts, any_literals),
))  # fmt: skip
tests_of_x = folded(
    st.one_of(
        st.sampled_from(
            (
                "x == x",
                "x > 1",
                "x.a == 1",
                "has(x.a)",
                "x == null",
                "x in [1, 'a', null]",
                "size(x) > 1",
                "x != 'a'",
            )
        ),
        written("x {} {}", st.sampled_from(RELATIONS), numbers | texts | any_paths),
        written("x.contains({})", texts),
        written("(x > 1 {} {})", st.sampled_from(("&&", "||")), conditions),
        written("[1, 2].{}(y, y == x)", st.sampled_from(("all", "exists", "exists_one"))),
        written("x.{}(x, x == {})", st.sampled_from(("all", "exists", "exists_one")), any_literals),
        conditions,
    )
)
values_of_x = folded(
    st.one_of(
        st.sampled_from(
            ("x", "[x, x]", "x.a", "x + x", "x * 2", "{'x': x}", "string(x)", "size(x)", "[x].map(y, y == x)")
        ),
        written("x == 1 ? {} : {}", numbers, texts),
        any_paths,
    )
)
"""Values for an `x`, which is bound by a macro around them."""
macros = folded(
    st.one_of(
        written(
            "{}.{}(x, {})", lists, st.sampled_from(("all", "exists", "exists_one", "filter")), tests_of_x
        ),
        written("{}.map(x, {})", lists, values_of_x),
        written("{}.filter(x, {}).map(x, {})", lists, tests_of_x, values_of_x),
        written("{}.filter(x, {}).exists(y, y == {})", lists, tests_of_x, any_literals),
        written("size({}.filter(x, {})) {} {}", lists, tests_of_x, st.sampled_from(RELATIONS), numbers),
    )
)
mixtures = st.recursive(
    any_paths | any_literals | macros,
    lambda inner: st.one_of(
        written("({} {} {})", inner, st.sampled_from(SIGNS), inner),
        written("({} {} {})", inner, st.sampled_from(("&&", "||")), inner),
        written("!{}", inner),
        written("-{}", inner),
        written("({} ? {} : {})", inner, inner, inner),
        written("has({})", inner),
        written("{}({})", st.sampled_from(("size", "string", "int", "double", "dyn")), inner),
        written("({}).size()", inner),
        written("({}).{}({})", inner, st.sampled_from(("startsWith", "endsWith", "contains")), inner),
        written("({})[{}]", inner, inner),
        written("({}).a", inner),
        written("[{}, {}]", inner, inner),
        written("{{'a': {}, \"b\": {}}}", inner, inner),
    ),
    max_leaves=8,
)
sources = st.one_of(conditions, numbers, texts, macros, mixtures).filter(lambda source: len(source) <= 4_096)
