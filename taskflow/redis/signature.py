"""The arguments of a script: its header names them once, for the Lua code and for the Python code that calls it.

    --@argv now_ms:int child_id keys[] runs[run_id fence:int]

An `int` is a number in Lua, a `flag` is a boolean on both sides, and everything else is text. `keys[]` is a list of texts,
`runs[...]` a list of records; a record may end in a list of its own. In Lua, `for run_id, fence in runs do` goes over a list: it
names the fields that it wants, in any order. `count_of(runs)` is the number of records; `runs` and `last_of(runs)` are the places
in ARGV of the list's first and last argument. An argument `--@together` is a list to which each call adds one item; the items of
one turn of the loop leave in one command (see `StoreClient.call_together`).

On the wire the arguments stand one after another. The number of items stands before a list, unless the list is the last argument.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from taskflow.values.record import record

TOKEN = re.compile(r"\s*(?:(?P<name>[a-z]\w*)(?::(?P<kind>int|flag))?(?P<open>\[)?|(?P<close>\]))")
LOOP = re.compile(r"\bfor (?P<names>[\w, ]+) in (?P<list>\w+) do\b")
SIZE = re.compile(r"\b(?P<what>count|last)_of\((?P<list>\w+)\)")
WORD = re.compile(r"[A-Za-z_]\w*")


@record
class Parameter:
    """An argument, or a list of arguments: then `fields` are the fields of each record, or empty for a list of texts."""

    name: str
    kind: str = "text"  # text, int, flag, list
    fields: tuple[Parameter, ...] = ()

    @property
    def scalars(self) -> tuple[Parameter, ...]:
        return tuple(field for field in self.fields if field.kind != "list")

    @property
    def nested(self) -> Parameter | None:
        """The list in which each record ends, if there is one."""
        return self.fields[-1] if self.fields and self.fields[-1].kind == "list" else None

    @property
    def width(self) -> int:
        """How many arguments a record without a nested list has."""
        return len(self.fields) or 1

    def lua(self, place: str | int) -> str:
        """The Lua expression that reads the value at that place of ARGV."""
        text = f"ARGV[{place}]"
        return {"int": f"tonumber({text})", "flag": f"({text} ~= '')"}.get(self.kind, text)

    def python(self) -> str:
        """The Python expression that is sent for the variable of this name."""
        return f'"1" if {self.name} else ""' if self.kind == "flag" else self.name


@record
class Signature:
    """The arguments of a script in the order of ARGV. `is_together`: the last one is a list to which each call adds one item."""

    parameters: tuple[Parameter, ...] = ()
    is_together: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The keywords of a call in Python."""
        parameters = self.parameters
        if self.is_together:
            parameters = (*parameters[:-1], *parameters[-1].fields)
        return tuple(parameter.name for parameter in parameters)

    def find_list(self, name: str) -> Parameter | None:
        for parameter in self.parameters:
            for one in (parameter, parameter.nested):
                if one is not None and one.kind == "list" and one.name == name:
                    return one
        return None

    # --- Lua ---

    def places(self) -> Iterator[tuple[Parameter, str]]:
        """Each parameter with its place in ARGV (a list: of its first item): a number, or behind a list a Lua expression."""
        at = "1"
        for number, parameter in enumerate(self.parameters, 1):
            if parameter.kind != "list":
                yield parameter, at
                at = plus(at, 1)
            elif number == len(self.parameters):
                yield parameter, at
            else:
                first = plus(at, 1)
                yield parameter, first
                at = f"{first} + {size_of(parameter, at)}"

    def bind_lua(self, body: str) -> str:
        """The code of a script with a local for each argument of its header, and with its loops over lists written out."""
        first = {parameter.name: place for parameter, place in self.places()}
        last_name = self.parameters[-1].name if self.parameters else ""

        def start_of(each: Parameter) -> str:
            return first.get(each.name, each.name)

        def end_of(each: Parameter) -> str:
            start = start_of(each)
            if each.name == last_name:
                return "#ARGV"
            return f"{start} + {size_of(each, plus(start, -1))} - 1"

        def write_loop(match: re.Match[str]) -> str:
            each = self.find_list(match["list"])
            if each is None:
                return match[0]
            names = match["names"].replace(" ", "").split(",")
            at = f"{each.name}_at"
            if each.nested is None:
                head = f"for {at} = {start_of(each)}, {end_of(each)}{f', {each.width}' if each.width > 1 else ''} do"
            else:
                inner = plus(at, len(each.scalars) + 1)
                count = plus(at, len(each.scalars))
                head = (
                    f"local {each.name}_next = {start_of(each)}\nwhile {each.name}_next <= #ARGV do\n"
                    f"local {at} = {each.name}_next\n{each.name}_next = {inner} + {size_of(each.nested, count)}"
                )
            return f"{head}\nlocal {', '.join(names)} = {', '.join(read_fields(each, names, at))}\n"

        def write_size(match: re.Match[str]) -> str:
            each = self.find_list(match["list"])
            if each is None:
                return match[0]
            if match["what"] == "last":
                return f"({end_of(each)})"
            start = start_of(each)
            return f"(#ARGV - {plus(start, -1)})" if each.name == last_name else f"ARGV[{plus(start, -1)}]"

        code = SIZE.sub(write_size, LOOP.sub(write_loop, body))
        used = set(WORD.findall(code))
        bound = [
            (parameter.name, place if parameter.kind == "list" else parameter.lua(place))
            for parameter, place in self.places()
            if parameter.name in used
        ]
        if not bound:
            return code
        return (
            f"local {', '.join(name for name, _ in bound)} = {', '.join(value for _, value in bound)}\n{code}"
        )

    # --- Python ---

    def define_python(self, name: str) -> str:
        """Python source of `bind(client, sha, prefix)`, which returns the function that calls the script, and of `argv`."""
        arguments = ", ".join(self.sent(self.parameters[:-1] if self.is_together else self.parameters))
        keywords = f"*, {', '.join(self.names)}" if self.names else ""
        lines = [line for parameter in self.parameters for line in define_flatten(parameter)]
        if self.is_together:
            item = self.parameters[-1]
            lines += define_flatten(item.nested) if item.nested else []
            sent = ", ".join([*[field.python() for field in item.scalars], *sent_list(item.nested)])
            call = f"client.call_together((b'EVALSHA', sha, b'1', prefix, {arguments}), {sent})"
            arguments = f"{arguments}, {sent}"
        else:
            call = f"client.call(b'EVALSHA', sha, b'1', prefix, {arguments})"
        lines += [
            "def bind(client, sha, prefix):",
            f"    def {name}({keywords}):",
            f"        return {call}",
            f"    return {name}",
            f"def argv({keywords}):",
            f"    return ({arguments},)" if arguments else "    return ()",
        ]
        return "\n".join(lines) + "\n"

    def sent(self, parameters: tuple[Parameter, ...]) -> Iterator[str]:
        for parameter in parameters:
            if parameter.kind != "list":
                yield parameter.python()
            elif parameter is self.parameters[-1]:
                yield sent_list(parameter)[-1]
            else:
                yield from sent_list(parameter)


def read_fields(each: Parameter, names: list[str], at: str) -> Iterator[str]:
    """The Lua expressions of these fields of a record. Raises ValueError for a field that the header does not name."""
    if not each.fields:
        if len(names) > 1:
            raise ValueError(f"{each.name} is a list of texts, and has no fields {names}")
        yield f"ARGV[{at}]"
        return
    offsets = {field.name: (place, field) for place, field in enumerate(each.fields)}
    for name in names:
        if name not in offsets:
            raise ValueError(f"{each.name} has no field {name!r}, only {', '.join(offsets)}")
        offset, field = offsets[name]
        yield plus(at, offset + 1) if field.kind == "list" else field.lua(plus(at, offset))


def sent_list(each: Parameter | None) -> list[str]:
    """The Python expressions that are sent for a list: the number of its items, and the items."""
    if each is None:
        return []
    if not each.fields:
        return [f"len({each.name})", f"*{each.name}"]
    return [f"len({each.name})", f"*flatten_{each.name}({each.name})"]


def define_flatten(each: Parameter) -> Iterator[str]:
    """Python source of a function that makes one flat list of all records; a record is a sequence of its fields."""
    if not each.fields:
        return
    yield f"def flatten_{each.name}(rows):"
    yield "    flat = []"
    yield from add_rows(each, "rows", "    ")
    yield "    return flat"


def add_rows(each: Parameter, rows: str, indent: str) -> Iterator[str]:
    sent = [field.python() for field in each.scalars]
    inner = each.nested
    if inner is not None:
        sent.append(f"len({inner.name})")
    yield f"{indent}for {', '.join(field.name for field in each.fields)}, in {rows}:"
    yield f"{indent}    flat += ({', '.join(sent)},)"
    if inner is not None and inner.fields:
        yield from add_rows(inner, inner.name, indent + "    ")
    elif inner is not None:
        yield f"{indent}    flat += {inner.name}"


def size_of(each: Parameter, place: str) -> str:
    """A Lua expression for the number of arguments of the list whose number of items stands at `place`."""
    return f"ARGV[{place}] * {each.width}" if each.width > 1 else f"ARGV[{place}]"


def plus(place: str, count: int) -> str:
    """The place in ARGV that is `count` behind `place`."""
    if place.isdigit():
        return str(int(place) + count)
    return f"{place} {'+' if count > 0 else '-'} {abs(count)}" if count else place


def parse_signature(argv: str, together: str) -> Signature:
    """Read the lines `--@argv` and `--@together` of a header. Raises ValueError."""
    parameters = [*parse_parameters(argv), *parse_parameters(together)]
    for each in parameters:
        if any(field.kind == "list" for field in each.fields[:-1]):
            raise ValueError(f"{each.name}: a list must be the last field of a record")
        if each.nested is not None and each is not parameters[-1]:
            raise ValueError(f"{each.name}: only the last list of all may have lists in its records")
    return Signature(tuple(parameters), bool(together))


def parse_parameters(text: str) -> list[Parameter]:
    levels: list[list[Parameter]] = [[]]
    opened: list[str] = []
    place = 0
    while place < len(text.rstrip()):
        match = TOKEN.match(text, place)
        if match is None:
            raise ValueError(f"can't read {text[place:]!r}: expected name, name:int, name:flag or name[...]")
        place = match.end()
        if match["open"]:
            opened.append(match["name"])
            levels.append([])
        elif match["close"]:
            fields = levels.pop()
            levels[-1].append(Parameter(opened.pop(), "list", tuple(fields)))
        else:
            levels[-1].append(Parameter(match["name"], match["kind"] or "text"))
    if opened:
        raise ValueError(f"{opened[-1]}[ is not closed")
    return levels[0]
