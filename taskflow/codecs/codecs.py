"""Codecs: the codecs of one app, in the order in which a value goes through them: compression, encryption, blobs. Rule S12.1.

Each app has one, so this imports what the codecs need when they are used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from taskflow.errors import BlobUnavailable, ConfigError, DecodeError
from taskflow.values.json import from_json, to_json
from taskflow.values.record import record
from taskflow.values.stored import begins_envelope, begins_reference

if TYPE_CHECKING:
    from taskflow.codecs.blobs import Blobs
    from taskflow.codecs.compression import Compression
    from taskflow.codecs.encryption import Encryption

    AnyCodec: TypeAlias = Compression | Encryption
else:
    AnyCodec = Any


class Unread(str):
    """Stands for a value that this process can't decode, for people: "encrypted (key ab12cd34)"."""

    __slots__ = ()


@record
class BlobPlace:
    """Where large values lie, and from which size (bytes) on; `namespace` keeps deployments apart."""

    url: str
    threshold: int
    namespace: str


class Forms(NamedTuple):
    """The functions that write and read envelopes."""

    encrypted: Callable[..., bytes]
    compressed: Callable[..., bytes]
    read: Callable[[bytes | str], dict[str, Any] | None]
    open: Callable[[Mapping[str, Any], Encryption | None, Compression | None], bytes]


@cache
def forms() -> Forms:
    # Imported once, when the first value is changed or read: an import in each call would take longer than the work.
    from taskflow.codecs.envelope import compressed, encrypted, read_envelope
    from taskflow.codecs.opening import open_envelope

    return Forms(encrypted, compressed, read_envelope, open_envelope)


class Codecs:
    """What an app does to its values before they are stored, and after they are read.

    Without codecs a value stays as it is, but for one that looks like an envelope: it gets one.
    """

    __slots__ = ("_blobs", "blob_threshold", "compression", "encryption", "event_fields", "place")

    def __init__(self, codecs: Sequence[AnyCodec] = (), place: BlobPlace | None = None) -> None:
        """`place` is where large values lie. Raises ConfigError for what is no codec, for two of a kind, and without obstore."""
        self.compression: Compression | None = None
        self.encryption: Encryption | None = None
        if codecs != ():
            self.take(codecs)
        # The fields of events that are encrypted, as parts of paths.
        self.event_fields: tuple[tuple[str, ...], ...] = (
            () if self.encryption is None else self.encryption.event_fields
        )
        if place is not None:
            from taskflow.codecs.blobs import check_installed

            check_installed()
        self.place = place
        # The size from which on a stored value is put into a blob.
        self.blob_threshold = sys.maxsize if place is None else place.threshold
        self._blobs: Blobs | None = None

    def take(self, codecs: object) -> None:
        """Read the list of codecs. Raises ConfigError."""
        from taskflow.codecs.compression import Compression
        from taskflow.codecs.encryption import Encryption

        if not isinstance(codecs, Sequence) or isinstance(codecs, str):
            raise ConfigError(f"codecs must be a list of codecs, got {codecs!r:.80}; write codecs=[...]")
        for each in codecs:
            if isinstance(each, Compression) and self.compression is None:
                self.compression = each
            elif isinstance(each, Encryption) and self.encryption is None:
                self.encryption = each
            else:
                raise ConfigError(
                    f"codecs takes at most one Compression and one Encryption, got {each!r:.80}"
                )

    @property
    def cipher(self) -> Encryption | None:
        """What encrypts; None also where Encryption only decrypts."""
        return None if self.encryption is None or self.encryption.decrypt_only else self.encryption

    # --- values ---

    def encode(self, text: bytes) -> bytes:
        """What is stored of a value, which is given as JSON."""
        cipher = self.cipher
        packed = None if self.compression is None else self.compression.compress(text)
        if cipher is None and packed is None and not begins_envelope(text):
            return text
        write = forms()
        if cipher is not None:
            size = None if packed is None else len(text)
            return write.encrypted(
                cipher.encrypt(text if packed is None else packed), key_id=cipher.key.id, size=size
            )
        if packed is None:
            from taskflow.codecs.compression import pack

            packed = pack(text)
        return write.compressed(packed, size=len(text))

    def decode(self, stored: bytes | str) -> bytes | str:
        """The JSON of a stored value. Raises UnknownKey, DecodeError."""
        if not begins_envelope(stored):
            return stored
        envelope = forms().read(stored)
        return stored if envelope is None else self.opened(envelope)

    def opened(self, envelope: Mapping[str, Any]) -> bytes:
        """The JSON in an envelope. Raises UnknownKey, DecodeError."""
        return forms().open(envelope, self.encryption, self.compression)

    def opened_member(self, value: Any) -> Any:
        """A member of a stored value, which may stand in an envelope of its own. Raises UnknownKey, DecodeError."""
        from taskflow.codecs.envelope import is_envelope

        return from_json(self.opened(value)) if is_envelope(value) else value

    # --- blobs ---

    @property
    def blobs(self) -> Blobs:
        """Where large values lie, opened at the first use. Raises BlobUnavailable when the app has no such place, ConfigError."""
        if self._blobs is None:
            if self.place is None:
                raise BlobUnavailable(
                    "a value lies in a blob, but this app does not say where its blobs are: TaskFlow(blobs='s3://bucket/prefix')"
                )
            from taskflow.codecs.blobs import Blobs

            self._blobs = Blobs(self.place.url, self.place.namespace)
        return self._blobs

    async def fetched(self, stored: bytes | str) -> bytes | str:
        """What is stored of a value, from its blob if it lies in one. Raises BlobUnavailable, and DecodeError when that is gone."""
        if not begins_reference(stored):
            return stored
        reference = forms().read(stored)
        return stored if reference is None else await self.blobs.get(reference)

    # --- errors ---

    def sealed_error(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """What is stored of an error: its message and its traceback encrypted, its class as it is."""
        cipher = self.cipher
        if cipher is None or told.get("clear"):
            return dict(told)
        encrypted = forms().encrypted
        texts = {
            name: to_json(told[name], what="an error") for name in ("message", "stack") if told.get(name)
        }
        key_id = cipher.key.id
        sealed = {
            name: encrypted(cipher.encrypt(text), key_id=key_id).decode() for name, text in texts.items()
        }
        return {**told, **sealed}

    def opened_error(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """The error of which `told` is stored. Raises UnknownKey, DecodeError."""
        texts = {name: told[name] for name in ("message", "stack") if told.get(name)}
        sealed = {name: text for name, text in texts.items() if begins_envelope(text)}
        return {**told, **{name: str(from_json(self.decode(text))) for name, text in sealed.items()}}

    # --- for people ---

    def shown(self, stored: bytes | str) -> Any:
        """A stored value; an `Unread` that says why when it can't be decoded here."""
        return self.shown_member(from_json(stored)) if begins_envelope(stored) else from_json(stored)

    def shown_member(self, value: Any) -> Any:
        """A member of a stored value, as `shown`."""
        from taskflow.codecs.envelope import describe, is_envelope

        if not is_envelope(value):
            return value
        try:
            return from_json(self.opened(value))
        except DecodeError as error:
            return Unread(describe(value) if error.passes else f"{describe(value)}: {error}")

    def shown_text(self, text: str) -> str:
        """A text of a stored error, as `shown`."""
        return text if not begins_envelope(text) else str(self.shown(text))


NO_CODECS = Codecs()
