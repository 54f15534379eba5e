"""Codecs: what encryption and compression add to storing and reading a value, in CPU time, beside libsodium alone."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from nacl.bindings import crypto_secretbox, crypto_secretbox_open

from benchmarks.report import Benchmark, Figures, Row, Scale, at_most
from taskflow import Compression, Encryption
from taskflow.codecs.codecs import NO_CODECS, Codecs
from taskflow.values.stored import dump, load

ROUNDS = 7
KEY = os.urandom(32)
NONCE = os.urandom(24)
WORDS = ("order", "customer", "shipped", "pending", "invoice", "line", "total", "sku")


def value_of(size: int) -> dict[str, Any]:
    """A value of about `size` bytes of JSON, as dense as that of an order."""
    chance = random.Random(size)
    rows = [{"id": chance.randrange(10**9), "word": chance.choice(WORDS)} for _ in range(size // 35)]
    return {"rows": rows}


def measure(scale: Scale) -> Figures:
    count = scale.pick(20_000, 500)
    small, large = value_of(1_024), value_of(64 * 1_024)
    text = dump(small, what="it")
    box = crypto_secretbox(text, NONCE, KEY)
    encrypting, compressing = Codecs([Encryption("a key of a benchmark")]), Codecs([Compression()])
    stored, packed = dump(small, codec=encrypting, what="it"), dump(large, codec=compressing, what="it")
    plain = dump(large, what="it")
    us = paired_us(
        {
            "dump": lambda: dump(small, codec=NO_CODECS, what="it"),
            "dump_encrypted": lambda: dump(small, codec=encrypting, what="it"),
            "seal": lambda: crypto_secretbox(text, NONCE, KEY),
            "load": lambda: load(text, codec=NO_CODECS, what="it"),
            "load_encrypted": lambda: load(stored, codec=encrypting, what="it"),
            "open": lambda: crypto_secretbox_open(box, NONCE, KEY),
        },
        count,
    )  # fmt: skip
    us |= paired_us(
        {
            "large": lambda: dump(large, codec=NO_CODECS, what="it"),
            "large_compressed": lambda: dump(large, codec=compressing, what="it"),
            "large_load": lambda: load(plain, codec=NO_CODECS, what="it"),
            "large_unpacked": lambda: load(packed, codec=compressing, what="it"),
        },
        count // 50,
    )  # fmt: skip
    return {
        "libsodium_us": us["seal"],
        "encrypt_over_us": us["dump_encrypted"] - us["dump"] - us["seal"],
        "decrypt_over_us": us["load_encrypted"] - us["load"] - us["open"],
        "compress_us": us["large_compressed"] - us["large"],
        "unpack_us": us["large_unpacked"] - us["large_load"],
        "compressed_to": len(packed) / len(plain),
    }


def paired_us(calls: dict[str, Callable[[], object]], count: int) -> dict[str, float]:
    """The CPU time of each call: the median of rounds in which all of them take turns, so that a slow spell hits all alike."""
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            started_s = time.process_time()
            for _ in range(count):
                call()
            rounds[name].append((time.process_time() - started_s) / count * 1e6)
    return {name: statistics.median(values) for name, values in rounds.items()}


BENCHMARK = Benchmark(
    name="codecs",
    rows=(
        Row("libsodium_us", "libsodium's secretbox over 1 KiB, by PyNaCl", "us"),
        Row(
            "encrypt_over_us",
            "to store 1 KiB encrypted: over that, and over storing it in clear",
            "us",
            at_most(15),
        ),
        Row("decrypt_over_us", "to read it: over libsodium, and over reading it in clear", "us", at_most(15)),
        Row("compress_us", "to compress 64 KiB, over storing it as it is", "us"),
        Row("unpack_us", "to read that, over reading it as it is", "us"),
        Row("compressed_to", "the part of its size that it takes then, in base64", "x"),
    ),
    measure=measure,
)
