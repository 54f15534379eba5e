"""CEL: what it costs to evaluate an expression that is compiled, one that is left to cel-python, and to compile one."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import orjson

from benchmarks.report import Benchmark, Figures, Row, Scale, at_most
from taskflow.expressions.cel import Expression, compile_expression

EVENT: dict[str, Any] = orjson.loads(
    b'{"uid":"01J9ZQ8VJ9K3X6M3W4Y5Z6A7B8","id":"order-1","name":"shop/order.created","ts":1762340000000,"data":{"total":120.5,'
    b'"country":"DE","customer":{"id":"c-1000"},"lines":[{"sku":"a","count":1},{"sku":"b","count":2}]}}'
)
CONDITION = 'event.data.total > 100 && event.data.country == "DE"'
KEY = "event.data.customer.id"
MISSING = 'event.data.coupon == "x"'
MACRO = "event.data.lines.exists(line, line.count > 1)"
ROUNDS = 5

FIRST = """
import time
from taskflow.expressions.cel import compile_expression
started_s = time.perf_counter()
compile_expression("event.data.total > 1", what="benchmark")
print(time.perf_counter() - started_s)
"""


def measure(scale: Scale) -> Figures:
    count = scale.pick(100_000, 2_000)
    key = prepared(KEY)
    return {
        "condition_us": evaluation_us(prepared(CONDITION), count),
        "key_us": best_us(lambda: key.value(EVENT), count),
        "missing_us": evaluation_us(prepared(MISSING), count),
        "macro_us": evaluation_us(prepared(MACRO), count // 100),
        "compile_us": compile_us(count // 1_000),
        "first_ms": first_ms(),
    }


def prepared(source: str) -> Expression:
    return compile_expression(source, what="benchmark")


def evaluation_us(expression: Expression, count: int) -> float:
    return best_us(lambda: expression.matches(EVENT), count)


def best_us(call: Any, count: int) -> float:
    """Of `ROUNDS`, as what slows a round down is the machine; the loop and the call of a lambda (0.05 us) are included."""
    rounds = []
    for _ in range(ROUNDS):
        started_s = time.perf_counter()
        for _ in range(count):
            call()
        rounds.append((time.perf_counter() - started_s) / count * 1e6)
    return min(rounds)


def compile_us(count: int) -> float:
    """Each source is another, since what was compiled once is kept."""
    now = time.perf_counter_ns()
    sources = [f'event.data.total > {now + number} && event.data.country == "DE"' for number in range(count)]
    started_s = time.perf_counter()
    for source in sources:
        compile_expression(source, what="benchmark")
    return (time.perf_counter() - started_s) / count * 1e6


def first_ms() -> float:
    """The first expression of a process, which imports cel-python and builds its parser."""
    done = subprocess.run([sys.executable, "-c", FIRST], check=True, capture_output=True, text=True)
    return float(done.stdout) * 1e3


BENCHMARK = Benchmark(
    name="expressions",
    rows=(
        Row("condition_us", "compiled: two comparisons and an &&", "us", at_most(2)),
        Row("key_us", "compiled: a key, customer.id", "us", at_most(2)),
        Row("missing_us", "compiled: a comparison of a field that is missing", "us", at_most(2)),
        Row("macro_us", "left to cel-python: exists() over two items", "us"),
        Row("compile_us", "to parse, check and compile an expression", "us"),
        Row("first_ms", "the first one of a process: import and parser", "ms"),
    ),
    measure=measure,
)
