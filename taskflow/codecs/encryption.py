"""Encryption: stored values can only be read with a key. The form is that of Inngest's encryption middleware. Rule S12.2.

XSalsa20-Poly1305 over the JSON (libsodium's secretbox), with a new nonce for each value; the key is the BLAKE2b-256 hash of a text.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskflow.codecs.envelope import KEY, data_of
from taskflow.errors import ConfigError, DecodeError, UnknownKey
from taskflow.values.record import record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

KEY_BYTES, NONCE_BYTES = 32, 24
# A text of fewer characters can be guessed.
MIN_KEY_CHARS = 16
DEFAULT_FIELDS = ("data.encrypted",)


@record
class SecretKey:
    """A key, and the id by which stored values name it: 8 hex digits that say nothing about the key."""

    secret: bytes
    id: str

    def __repr__(self) -> str:
        return f"SecretKey({self.id})"


def read_key(key: object, *, what: str) -> SecretKey:
    """The key of a text of at least 16 characters, or of 64 hex digits in bytes, as of Inngest's. Raises ConfigError."""
    # An app without encryption does not import it: OpenSSL comes with it.
    import hashlib

    if isinstance(key, str) and len(key) >= MIN_KEY_CHARS:
        secret = hashlib.blake2b(key.encode(), digest_size=KEY_BYTES).digest()
    elif isinstance(key, bytes) and len(key) == 2 * KEY_BYTES:
        try:
            secret = bytes.fromhex(key.decode())
        except ValueError:
            raise ConfigError(f"Encryption: {what} in bytes must be 64 hex digits") from None
    else:
        got = (
            f"{type(key).__name__} of length {len(key)}"
            if isinstance(key, str | bytes)
            else type(key).__name__
        )
        raise ConfigError(
            f"Encryption: {what} must be a str of at least {MIN_KEY_CHARS} characters, or 64 hex digits as bytes, got a {got}. "
            "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    key_id = hashlib.blake2b(secret, digest_size=4, person=b"taskflow key id").hexdigest()
    return SecretKey(secret, key_id)


class Encryption:
    """Encrypts what the app stores and sends. Needs PyNaCl: `pip install 'taskflow-durable[encryption]'`. Rule S12.2.

        app = TaskFlow("shop", codecs=[Encryption(os.environ["SHOP_KEY"])])

    `key` is a text of at least 16 characters, of which the key is made; or 64 hex digits as bytes. `fallback_keys` are tried for
    what the key did not encrypt. With `decrypt_only` nothing is encrypted, but what is encrypted can be read: for the time in which
    not all processes have the key yet. `event_fields` are the paths in events that are encrypted, "data.encrypted" by default; no
    expression, key or match can read them. Raises ConfigError, also when PyNaCl is not installed.
    """

    def __init__(
        self,
        key: str | bytes,
        *,
        fallback_keys: Sequence[str | bytes] = (),
        decrypt_only: bool = False,
        event_fields: Sequence[str] = DEFAULT_FIELDS,
    ) -> None:
        if isinstance(fallback_keys, str | bytes):
            raise ConfigError("Encryption: fallback_keys must be a list of keys; write fallback_keys=[...]")
        try:
            from nacl import bindings, exceptions
        except ImportError as error:
            raise ConfigError(
                "Encryption needs PyNaCl: pip install 'taskflow-durable[encryption]'"
            ) from error
        self.key = read_key(key, what="the key")
        self.fallback_keys = tuple(read_key(each, what="a fallback key") for each in fallback_keys)
        self.decrypt_only = decrypt_only
        self.event_fields = tuple(read_field(field) for field in as_fields(event_fields))
        self.by_id = {each.id: each for each in (*self.fallback_keys, self.key)}
        self._seal, self._open, self._wrong = (
            bindings.crypto_secretbox,
            bindings.crypto_secretbox_open,
            exceptions.CryptoError,
        )

    def __repr__(self) -> str:
        return f"Encryption(key {self.key.id}, fallback_keys={[each.id for each in self.fallback_keys]})"

    def encrypt(self, text: bytes) -> bytes:
        """The text as nonce and box."""
        nonce = os.urandom(NONCE_BYTES)
        box: bytes = self._seal(text, nonce, self.key.secret)
        return nonce + box

    def decrypt(self, envelope: Mapping[str, Any]) -> bytes:
        """The text in an envelope. Raises UnknownKey, DecodeError."""
        key_id = envelope.get(KEY)
        known = self.by_id.get(key_id) if isinstance(key_id, str) else None
        if known is None and key_id is not None:
            raise unknown_key(key_id, self.by_id)
        data = data_of(envelope)
        # Inngest's SDKs do not say which key they used.
        for key in (known,) if known is not None else self.by_id.values():
            try:
                text: bytes = self._open(data[NONCE_BYTES:], data[:NONCE_BYTES], key.secret)
            except (self._wrong, ValueError):
                continue
            return text
        if known is not None:
            raise DecodeError(
                f"an encrypted value is damaged: key {known.id}, which it names, does not open it"
            )
        raise DecodeError(
            f"an encrypted value does not say which key it needs, and no key of this process opens it ({', '.join(self.by_id)}). "
            "Add its key to Encryption(fallback_keys=[...]), then rerun the run"
        )


def unknown_key(key_id: object, known: Mapping[str, object] | None) -> UnknownKey:
    """The error for a value whose key this process does not have; `known` are those that it has, None without Encryption."""
    if known is None:
        has = "but the app has no Encryption"
        remedy = "Give the app the key: TaskFlow(codecs=[Encryption(key)])"
    else:
        has = f"but this process has {', '.join(known)}"
        remedy = "Add the key to Encryption(fallback_keys=[...]) of the app"
    named = f"with key {key_id!s:.20}" if key_id is not None else "with a key that it does not name"
    return UnknownKey(f"a value is encrypted {named}, {has}. {remedy}")


def as_fields(fields: object) -> Sequence[object]:
    if isinstance(fields, str) or not isinstance(fields, Sequence):
        raise ConfigError(
            f"Encryption: event_fields must be a list of paths like 'data.encrypted', got {fields!r:.80}"
        )
    return fields


def read_field(field: object) -> tuple[str, ...]:
    """The parts of a path into an event: ("data", "encrypted"). Raises ConfigError."""
    parts = tuple(field.split(".")) if isinstance(field, str) else ()
    if not parts or parts[0] not in ("data", "user") or not all(part.isidentifier() for part in parts):
        raise ConfigError(
            f"Encryption: event_fields must be paths into data or user, like 'data.encrypted' or 'user.email', got {field!r:.80}"
        )
    return parts
