"""The wire form is that of Inngest's encryption middleware: each reads what the other wrote."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import inngest
import orjson
import pytest
from inngest_encryption import EncryptionMiddleware

from taskflow import DecodeError, Encryption
from taskflow.codecs.codecs import Codecs
from taskflow.codecs.event_fields import decode_event, encode_event
from taskflow.values.stored import dump, load

KEY = "correct horse battery staple"
OTHER = "another horse, another staple"
VALUES = [{"ssn": "078-05-1120", "n": [1, 2.5, None]}, "text", 7, None, True, [], "ü€😀", "x" * 10_000]


def middleware(key: str | bytes = KEY, **options: Any) -> Any:
    client = inngest.Inngest(app_id="shop", is_production=False)
    return EncryptionMiddleware.factory(key, **options)(client, None)


def read_by_inngest(stored: bytes, **options: Any) -> Any:
    """What its middleware makes of the memo of a step."""
    memo = SimpleNamespace(data=orjson.loads(stored))
    context: Any = SimpleNamespace(event=inngest.Event(name="shop/go", data={}), events=[])
    middleware(**options).transform_input(context, cast(Any, None), {"step": memo})
    return memo.data


def written_by_inngest(value: object, **options: Any) -> bytes:
    """What its middleware makes of the output of a step."""
    result: Any = SimpleNamespace(output=value, step=None, error=None, has_output=lambda: True)
    middleware(**options).transform_output(result)
    return orjson.dumps(result.output)


@pytest.mark.parametrize("value", VALUES)
def test_its_middleware_reads_what_we_store(value: object) -> None:
    assert read_by_inngest(dump(value, codec=Codecs([Encryption(KEY)]), what="it")) == value


@pytest.mark.parametrize("value", VALUES)
def test_we_read_what_its_middleware_stores(value: object) -> None:
    stored = written_by_inngest(value)
    assert b"__ENCRYPTED__" in stored
    assert load(stored, codec=Codecs([Encryption(KEY)]), what="it") == value


def test_key_in_bytes_is_hex_digits_as_there() -> None:
    key = bytes(range(32)).hex().encode()
    stored = dump({"n": 1}, codec=Codecs([Encryption(key)]), what="it")
    assert read_by_inngest(stored, key=key) == {"n": 1}
    assert load(written_by_inngest({"n": 2}, key=key), codec=Codecs([Encryption(key)]), what="it") == {"n": 2}


def test_old_keys_are_tried_for_what_it_wrote_without_naming_a_key() -> None:
    codecs = Codecs([Encryption(OTHER, fallback_keys=[KEY])])
    assert load(written_by_inngest("secret"), codec=codecs, what="it") == "secret"


def test_value_of_it_that_no_key_opens_is_told_with_the_remedy() -> None:
    with pytest.raises(DecodeError, match=r"no key of this process opens it .*fallback_keys"):
        load(written_by_inngest("secret"), codec=Codecs([Encryption(OTHER)]), what="it")


def test_its_middleware_reads_the_encrypted_field_of_our_events() -> None:
    wire: Any = {"name": "shop/go", "data": {"order": 7, "encrypted": {"ssn": "078"}}}
    data = encode_event(Codecs([Encryption(KEY)]), wire, what="it")["data"]
    assert data["encrypted"]["__ENCRYPTED__"] is True
    event = inngest.Event(name="shop/go", data=data)
    context: Any = SimpleNamespace(event=event, events=[])
    middleware().transform_input(context, cast(Any, None), {})
    assert event.data == {"order": 7, "encrypted": {"ssn": "078"}}


@pytest.mark.parametrize("field", ["encrypted", "private"])
def test_we_read_the_field_that_its_middleware_encrypts_in_events(field: str) -> None:
    event = inngest.Event(name="shop/go", data={"order": 7, field: {"ssn": "078"}})
    middleware(event_encryption_field=field).before_send_events([event])
    assert cast(Any, event.data)[field]["__ENCRYPTED__"] is True
    codecs = Codecs([Encryption(KEY)])
    assert decode_event(codecs, "shop/go", cast(Any, event.data), None) == (
        {"order": 7, field: {"ssn": "078"}},
        None,
    )


def test_field_that_a_sender_has_encrypted_is_not_encrypted_twice() -> None:
    event = inngest.Event(name="shop/go", data={"encrypted": "secret"})
    middleware().before_send_events([event])
    wire = {"name": "shop/go", "data": cast(Any, event.data)}
    assert encode_event(Codecs([Encryption(KEY)]), wire, what="it") == wire
