"""What is stored of a value, without any run: forms, keys, sizes, and what can't be read. S12.1, S12.3."""

from __future__ import annotations

import random
import sys
import zlib
from base64 import b64encode
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow import Compression, ConfigError, DecodeError, Encryption, TaskFlow, UnknownKey
from taskflow.codecs.codecs import NO_CODECS, Codecs, Unread
from taskflow.codecs.event_fields import decode_event, encode_event, shown_event
from taskflow.values.json import to_json
from taskflow.values.stored import dump, load

KEY = "correct horse battery staple"
OLD = "an old horse and a staple"
PLAIN = Codecs()
ENCRYPTING = Codecs([Encryption(KEY)])
COMPRESSING = Codecs([Compression(100)])
BOTH = Codecs([Encryption(KEY), Compression(100)])
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.sampled_from(["__ENCRYPTED__", "__COMPRESSED__"]), inner)
    ),
)


@given(json_values, st.sampled_from([PLAIN, ENCRYPTING, COMPRESSING, BOTH]))
def test_every_value_comes_back(value: object, codecs: Codecs) -> None:
    stored = dump(value, codec=codecs, what="it")
    assert load(stored, codec=codecs, what="it") == value
    # msgpack gives text back for bytes
    assert load(stored.decode(), codec=codecs, what="it") == value


def test_without_codecs_nothing_changes() -> None:
    values: list[object] = [{"a": 1}, [], None, "text", {"__x": 1}]
    for value in values:
        assert dump(value, codec=NO_CODECS, what="it") == to_json(value, what="it")


@pytest.mark.parametrize("codecs", [PLAIN, COMPRESSING])
@pytest.mark.parametrize(
    "value", [{"__ENCRYPTED__": True, "data": "x"}, {"__COMPRESSED__": "zlib", "data": ""}]
)
def test_value_that_looks_like_an_envelope_is_not_taken_for_one(codecs: Codecs, value: object) -> None:
    assert load(dump(value, codec=codecs, what="it"), codec=NO_CODECS, what="it") == value


def test_same_value_is_encrypted_differently_each_time_and_shows_nothing() -> None:
    first, second = (dump("a secret text", codec=ENCRYPTING, what="it") for _ in range(2))
    assert first != second
    assert b"secret" not in first


def test_stored_value_names_its_key_and_not_the_key_itself() -> None:
    encryption = Encryption(KEY)
    envelope = orjson.loads(dump(1, codec=Codecs([encryption]), what="it"))
    assert envelope["__KEY__"] == encryption.key.id
    assert len(encryption.key.id) == 8
    assert encryption.key.secret.hex() not in repr(encryption)
    assert KEY not in repr(encryption)


def test_fallback_key_reads_what_the_old_key_wrote() -> None:
    stored = dump("old", codec=Codecs([Encryption(OLD)]), what="it")
    assert load(stored, codec=Codecs([Encryption(KEY, fallback_keys=[OLD])]), what="it") == "old"


def test_decrypt_only_reads_and_does_not_encrypt() -> None:
    codecs = Codecs([Encryption(KEY, decrypt_only=True)])
    assert dump({"n": 1}, codec=codecs, what="it") == b'{"n":1}'
    assert load(dump("new", codec=ENCRYPTING, what="it"), codec=codecs, what="it") == "new"


def test_unknown_key_is_told_with_the_keys_that_are_known() -> None:
    stored, known = dump(1, codec=Codecs([Encryption(OLD)]), what="it"), Encryption(KEY)
    with pytest.raises(
        UnknownKey, match=rf"with key {Encryption(OLD).key.id}, but this process has {known.key.id}"
    ):
        load(stored, codec=Codecs([known]), what="it")
    with pytest.raises(UnknownKey, match="but the app has no Encryption"):
        load(stored, codec=NO_CODECS, what="it")


def test_damaged_value_is_told_apart_from_an_unknown_key() -> None:
    stored = dump("x" * 50, codec=ENCRYPTING, what="it")
    place = stored.index(b'"data":"') + 60
    damaged = stored[:place] + (b"A" if stored[place : place + 1] != b"A" else b"B") + stored[place + 1 :]
    with pytest.raises(DecodeError, match="is damaged: key .* does not open it") as caught:
        load(damaged, codec=ENCRYPTING, what="it")
    assert not isinstance(caught.value, UnknownKey)


@pytest.mark.parametrize("data", ["", "!", "AAAA", None, 7])
def test_envelope_without_proper_data_is_refused(data: object) -> None:
    for strategy in ("inngest/libsodium", "taskflow/zlib+libsodium"):
        stored = orjson.dumps({"__ENCRYPTED__": True, "__STRATEGY__": strategy, "data": data})
        with pytest.raises(DecodeError):
            load(stored, codec=ENCRYPTING, what="it")
    with pytest.raises(DecodeError):
        load(orjson.dumps({"__COMPRESSED__": "zlib", "data": data, "size": 4}), codec=PLAIN, what="it")


def test_other_strategy_is_refused_by_name() -> None:
    stored = orjson.dumps({"__ENCRYPTED__": True, "__STRATEGY__": "aes", "data": ""})
    with pytest.raises(DecodeError, match="encrypted by 'aes'"):
        load(stored, codec=ENCRYPTING, what="it")


# --- compression ---


def test_large_value_is_compressed_and_a_small_one_is_not() -> None:
    assert dump("x" * 90, codec=COMPRESSING, what="it") == b'"%b"' % (b"x" * 90)
    assert len(dump("x" * 10_000, codec=COMPRESSING, what="it")) < 200


def test_value_that_does_not_get_smaller_stays_as_it_is() -> None:
    text = "".join(
        random.Random(1).choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/", k=500)
    )
    assert dump(text, codec=COMPRESSING, what="it") == to_json(text, what="it")


def test_compressed_value_is_encrypted_and_not_the_other_way_round() -> None:
    stored = dump("x" * 10_000, codec=BOTH, what="it")
    envelope = orjson.loads(stored)
    assert envelope["__STRATEGY__"] == "taskflow/zlib+libsodium"
    assert len(stored) < 400


def test_every_process_reads_what_is_compressed() -> None:
    assert load(dump("x" * 1_000, codec=COMPRESSING, what="it"), codec=NO_CODECS, what="it") == "x" * 1_000


def bomb(size: int, claimed: object) -> bytes:
    data = b64encode(zlib.compress(b"x" * size)).decode()
    return orjson.dumps({"__COMPRESSED__": "zlib", "data": data, "size": claimed})


def test_data_that_claims_to_be_too_large_is_refused_before_it_is_unpacked() -> None:
    codecs = Codecs([Compression(max_size="1MiB")])
    with pytest.raises(DecodeError, match="at most 1,048,576 are allowed"):
        load(bomb(10, 2_000_000), codec=codecs, what="it")


@pytest.mark.parametrize("claimed", [5, 9, 11, -1, "10", None, True])
def test_data_that_unpacks_to_another_size_than_it_claims_is_refused(claimed: object) -> None:
    with pytest.raises(DecodeError):
        load(bomb(10, claimed), codec=COMPRESSING, what="it")


def test_what_could_not_be_unpacked_again_is_not_compressed() -> None:
    codecs = Codecs([Compression(100, max_size=1_000)])
    assert dump("x" * 2_000, codec=codecs, what="it")[:1] == b'"'


# --- options ---


@pytest.mark.parametrize("key", ["short", b"short", b"z" * 64, 7, None])
def test_key_that_is_none_is_a_config_error(key: Any) -> None:
    with pytest.raises(ConfigError, match="key"):
        Encryption(key)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Encryption(KEY, fallback_keys="another key, but no list"),
        lambda: Encryption(KEY, event_fields="data.encrypted"),
        lambda: Encryption(KEY, event_fields=["id"]),
        lambda: Encryption(KEY, event_fields=["data."]),
        lambda: Compression(0),
        lambda: Compression("4 bananas"),
        lambda: Compression(level=10),
        lambda: TaskFlow("shop", codecs=Encryption(KEY)),  # type: ignore[arg-type]
        lambda: TaskFlow("shop", codecs=[Encryption(KEY), Encryption(OLD)]),
        lambda: TaskFlow("shop", codecs=["zlib"]),  # type: ignore[list-item]
    ],
)
def test_wrong_option_is_a_config_error(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


def test_missing_pynacl_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nacl", None)
    with pytest.raises(ConfigError, match=r"pip install 'taskflow-durable\[encryption\]'"):
        Encryption(KEY)


# --- events ---


def test_fields_are_encrypted_at_any_depth_and_the_senders_event_stays_as_it_is() -> None:
    codecs = Codecs(
        [Encryption(KEY, event_fields=["data.card.number", "user.email", "data.none", "data.card.number.x"])]
    )
    wire: Any = {
        "name": "a",
        "data": {"card": {"number": "4000", "brand": "V"}, "n": 1},
        "user": {"email": "a@b"},
    }
    before = orjson.dumps(wire)
    encoded = encode_event(codecs, wire, what="it")
    assert orjson.dumps(wire) == before
    assert encoded["data"]["card"]["brand"] == "V"
    assert b"4000" not in orjson.dumps(encoded)
    assert b"a@b" not in orjson.dumps(encoded)
    assert decode_event(codecs, "a", encoded["data"], encoded["user"]) == (wire["data"], wire["user"])


def test_all_of_the_data_can_be_encrypted() -> None:
    codecs = Codecs([Encryption(KEY, event_fields=["data"])])
    wire: Any = {"name": "a", "data": {"n": 1}}
    encoded = encode_event(codecs, wire, what="it")
    assert encoded["data"]["__ENCRYPTED__"] is True
    assert decode_event(codecs, "a", encoded["data"], None) == ({"n": 1}, None)


def test_errors_in_events_that_tell_of_an_end_are_decrypted() -> None:
    error = ENCRYPTING.sealed_error({"name": "ValueError", "message": "card 4000", "stack": "line 1"})
    assert "4000" not in str(error)
    inner = encode_event(ENCRYPTING, {"name": "a", "data": {"encrypted": 1}}, what="it")
    data, _ = decode_event(ENCRYPTING, "taskflow/function.failed", {"error": error, "event": inner}, None)
    assert data["error"]["message"] == "card 4000"
    assert data["event"]["data"] == {"encrypted": 1}


# --- for people without the key ---


def test_value_that_can_not_be_read_is_told_in_words() -> None:
    shown = NO_CODECS.shown(dump(1, codec=ENCRYPTING, what="it"))
    assert isinstance(shown, Unread)
    assert shown == f"encrypted (key {Encryption(KEY).key.id})"
    assert ENCRYPTING.shown(dump([1], codec=ENCRYPTING, what="it")) == [1]
    event = shown_event(
        NO_CODECS, encode_event(ENCRYPTING, {"name": "a", "data": {"encrypted": 1, "n": 2}}, what="it")
    )
    assert event["data"] == {"encrypted": shown, "n": 2}
