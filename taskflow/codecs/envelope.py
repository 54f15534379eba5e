"""Envelopes: the JSON objects that stand in the store, or in an event, in place of a value that a codec has changed. Rule S12.

They are JSON, so that scripts and processes without keys pass them on as they pass on any value.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from typing import Any, TypeGuard

from taskflow.errors import DecodeError
from taskflow.values.json import from_json
from taskflow.values.sizes import format_size
from taskflow.values.stored import begins_envelope

ENCRYPTED, STRATEGY, KEY = "__ENCRYPTED__", "__STRATEGY__", "__KEY__"
COMPRESSED, BLOB = "__COMPRESSED__", "__BLOB__"
# That of Inngest's encryption middleware, which reads what is stored so, and writes it.
LIBSODIUM = "inngest/libsodium"
ZLIB_LIBSODIUM = "taskflow/zlib+libsodium"


def is_encrypted(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a JSON value is the envelope of an encrypted one."""
    return isinstance(value, dict) and value.get(ENCRYPTED) is True


def is_envelope(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a JSON value is an envelope of ours."""
    return is_encrypted(value) or (isinstance(value, dict) and (COMPRESSED in value or BLOB in value))


def read_envelope(text: bytes | str) -> dict[str, Any] | None:
    """The envelope of which a JSON text consists; None for any other value."""
    if not begins_envelope(text):
        return None
    value = from_json(text)
    return value if is_envelope(value) else None


def encrypted(data: bytes, *, key_id: str, size: int | None = None) -> bytes:
    """The envelope of an encrypted value, as JSON. `size` is that of the JSON, when it was compressed before."""
    strategy = LIBSODIUM if size is None else ZLIB_LIBSODIUM
    end = b"" if size is None else b',"size":%d' % size
    return b'{"__ENCRYPTED__":true,"__STRATEGY__":"%b","data":"%b","__KEY__":"%b"%b}' % (
        strategy.encode(), b2a_base64(data, newline=False), key_id.encode(), end,
    )  # fmt: skip


def compressed(data: bytes, *, size: int) -> bytes:
    """The envelope of a compressed value, as JSON; `size` is that of the JSON."""
    return b'{"__COMPRESSED__":"zlib","data":"%b","size":%d}' % (b2a_base64(data, newline=False), size)


def blob_reference(owner: str, digest: str, size: int) -> bytes:
    """The reference to a blob, as JSON; `size` is that of what would be stored."""
    return b'{"__BLOB__":"%b","sha256":"%b","size":%d}' % (owner.encode(), digest.encode(), size)


def data_of(envelope: Mapping[str, Any]) -> bytes:
    """The bytes in an envelope. Raises DecodeError."""
    try:
        return a2b_base64(envelope.get("data", ""), strict_mode=True)
    except (TypeError, ValueError) as error:
        raise DecodeError(
            f"a value is damaged, which is {describe(envelope)}: its data is no base64 ({error})"
        ) from error


def describe(envelope: Mapping[str, Any]) -> str:
    """The envelope in words, for people who see it in place of its value: "encrypted (key ab12cd34)"."""
    if ENCRYPTED in envelope:
        key_id = envelope.get(KEY)
        return f"encrypted (key {key_id})" if isinstance(key_id, str) else "encrypted"
    if BLOB in envelope:
        size = envelope.get("size")
        return f"in a blob, {format_size(size)}" if isinstance(size, int) else "in a blob"
    return "compressed"
