"""Opens envelopes: decrypts, then unpacks. Rules S12.2, S12.3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskflow.codecs.compression import MAX_BYTES, Compression, unpack
from taskflow.codecs.encryption import Encryption, unknown_key
from taskflow.codecs.envelope import (
    BLOB,
    COMPRESSED,
    ENCRYPTED,
    KEY,
    LIBSODIUM,
    STRATEGY,
    ZLIB_LIBSODIUM,
    data_of,
)
from taskflow.errors import BlobUnavailable, DecodeError


def open_envelope(
    envelope: Mapping[str, Any], encryption: Encryption | None, compression: Compression | None
) -> bytes:
    """The JSON in an envelope. Raises UnknownKey, DecodeError; BlobUnavailable for a blob, which has to be read before."""
    if BLOB in envelope:
        raise BlobUnavailable("a value lies in a blob, which was not read")
    max_size = MAX_BYTES if compression is None else compression.max_size
    if ENCRYPTED not in envelope:
        if envelope[COMPRESSED] != "zlib":
            raise DecodeError(
                f"a value is compressed by {envelope[COMPRESSED]!r:.40}, which this version does not know"
            )
        return unpack(data_of(envelope), envelope.get("size"), max_size=max_size)
    strategy = envelope.get(STRATEGY)
    if strategy not in (LIBSODIUM, ZLIB_LIBSODIUM):
        raise DecodeError(
            f"a value is encrypted by {strategy!r:.60}, but taskflow reads {LIBSODIUM!r} and {ZLIB_LIBSODIUM!r}: have its "
            "sender encrypt it so"
        )
    if encryption is None:
        raise unknown_key(envelope.get(KEY), None)
    text = encryption.decrypt(envelope)
    return text if strategy == LIBSODIUM else unpack(text, envelope.get("size"), max_size=max_size)
