"""How fast the machine itself is just now, for figures depend on that: what goes through a socket, and what comes from memory."""

from __future__ import annotations

import random
import socket
import statistics
import time
from array import array

from tests.servers import ValkeyServer

CELLS = 131_072
CELL = 8  # numbers: 64 bytes, a line of the caches; 8 MiB in all, more than a core's own caches hold
PINGS = 1_000
SILENCES = 150
SILENCE_S = 0.008


def yardsticks() -> dict[str, str]:
    """By what is measured, as text; takes two seconds."""
    with ValkeyServer(aof=True) as server:
        busy_us, idle_us = round_trips_us(server.port)
    return {
        "round_trip": f"{busy_us:.0f} us for a PING over a plain socket, {idle_us:.0f} us after 8 ms of silence",
        "memory": f"{step_ns():.0f} ns for a step of a walk through 8 MiB, in Python",
    }


def round_trips_us(port: int) -> tuple[float, float]:
    """Medians: one after the other, and each after a silence."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ping_us() -> float:
            started_ns = time.perf_counter_ns()
            connection.sendall(b"PING\r\n")
            connection.recv(16)
            return (time.perf_counter_ns() - started_ns) / 1e3

        busy_us = [ping_us() for _ in range(PINGS)]
        idle_us = []
        for _ in range(SILENCES):
            time.sleep(SILENCE_S)
            idle_us.append(ping_us())
    return statistics.median(busy_us), statistics.median(idle_us)


def step_ns() -> float:
    """Each cell names the next one, in no order that a processor could guess; the second walk is measured."""
    order = list(range(CELLS))
    random.Random(1).shuffle(order)
    cells = array("q", bytes(8 * CELL * CELLS))
    for here, there in zip(order, order[1:] + order[:1], strict=True):
        cells[here * CELL] = there * CELL
    took_ns = 0
    at = 0
    for _ in range(2):
        started_ns = time.perf_counter_ns()
        for _ in range(CELLS):
            at = cells[at]
        took_ns = time.perf_counter_ns() - started_ns
    return took_ns / CELLS
