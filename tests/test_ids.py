import os
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.values.ids import (
    GENERATOR,
    MAX_BACKSTEP_MS,
    MAX_ULID_MS,
    UlidGenerator,
    derive_ulid,
    is_ulid,
    new_ulid,
    run_id_for,
    ulid_ms,
)


def test_ulids_are_26_characters_and_grow() -> None:
    ulids = [new_ulid() for _ in range(5_000)]
    assert all(map(is_ulid, ulids))
    assert all(earlier < later for earlier, later in zip(ulids, ulids[1:], strict=False))


@given(st.integers(0, MAX_ULID_MS))
def test_a_ulid_holds_its_time(ms: int) -> None:
    assert ulid_ms(UlidGenerator().new(ms)) == ms
    assert ulid_ms(derive_ulid("source", ms, secret=b"")) == ms


@given(st.lists(st.integers(0, MAX_BACKSTEP_MS), min_size=2, max_size=20))
def test_ulids_grow_when_the_clock_goes_back_a_little(times_ms: list[int]) -> None:
    generator = UlidGenerator()
    ulids = [generator.new(1_700_000_000_000 + ms) for ms in times_ms]
    assert ulids == sorted(set(ulids))


def test_a_clock_that_is_set_back_for_good_is_followed() -> None:
    generator = UlidGenerator()
    generator.new(2_000_000_000_000)
    assert ulid_ms(generator.new(1_700_000_000_000)) == 1_700_000_000_000


def test_threads_get_different_ulids() -> None:
    made: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: made.append([new_ulid() for _ in range(2_000)])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({ulid for ulids in made for ulid in ulids}) == 16_000
    assert all(ulids == sorted(ulids) for ulids in made)


def ulid_of_forked_child(now_ms: int) -> str:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, new_ulid(now_ms).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as pipe:
        return pipe.read()


def test_a_forked_child_makes_other_ulids_than_its_parent() -> None:
    now_ms = 1_700_000_000_000
    before = new_ulid(now_ms)
    of_child = ulid_of_forked_child(now_ms)
    assert is_ulid(of_child)
    assert len({before[10:18], of_child[10:18], ulid_of_forked_child(now_ms)[10:18]}) == 3


def test_a_child_that_is_forked_while_a_thread_makes_a_ulid_does_not_hang() -> None:
    with GENERATOR._lock:
        assert is_ulid(ulid_of_forked_child(1_700_000_000_000))


@given(st.text(), st.text())
def test_derived_ulids_depend_on_the_source_alone(one: str, other: str) -> None:
    assert is_ulid(derive_ulid(one, 5, secret=b"k"))
    assert (derive_ulid(one, 5, secret=b"k") == derive_ulid(other, 5, secret=b"k")) == (one == other)


def test_derived_ulids_never_change_between_versions() -> None:
    assert derive_ulid("taskflow", 1_700_000_000_000, secret=b"") == "01HF7YAT00VRHHDVPRY9BJ5766"
    assert run_id_for("01HF7YAT00" + "0" * 16, "shop/confirm") == "01HF7YAT000000000000000000-gpwxjm"


@pytest.mark.parametrize(
    "text", ["", "0" * 25, "0" * 27, "8" + "0" * 25, "0" * 25 + "U", "0" * 25 + "a", "0" * 26 + "\n"]
)
def test_what_is_no_ulid_is_refused(text: str) -> None:
    assert not is_ulid(text)
    with pytest.raises(ValueError, match="expected a ULID"):
        ulid_ms(text)


@pytest.mark.parametrize("ms", [-1, MAX_ULID_MS + 1])
def test_a_time_that_fits_no_ulid_is_refused(ms: int) -> None:
    with pytest.raises(ValueError, match="a ULID holds"):
        derive_ulid("source", ms, secret=b"")


def test_run_ids_join_event_and_function() -> None:
    uid = new_ulid()
    run_id = run_id_for(uid, "shop/confirm")
    assert re.fullmatch(uid + "-[0-9a-z]{6}", run_id)
    assert run_id == run_id_for(uid, "shop/confirm")
    assert len({run_id_for(uid, f"shop/function-{n}") for n in range(1_000)}) == 1_000
