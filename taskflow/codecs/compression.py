"""Compression: large values take less room in the store. Rule S12.3."""

from __future__ import annotations

from taskflow.errors import ConfigError, DecodeError
from taskflow.values.sizes import MIB, parse_size

# Where compressed data takes more than this part, the value is stored as it is: in base64 it would hardly be smaller.
PAYS_BELOW = 2 / 3
MAX_BYTES = 512 * MIB


class Compression:
    """Compresses stored values from a size on, with zlib. Rule S12.3.

        app = TaskFlow("shop", codecs=[Compression("4KiB")])

    `threshold` is the size of a value as JSON, a number of bytes or like "4KiB", from which on it is compressed; one that gets
    hardly smaller stays as it is. `level` is zlib's, from 1 (fast) to 9 (small). `max_size` is the most that a value may have
    when it is unpacked: what is larger is not compressed, and data that claims less and unpacks to more is refused. Every process
    reads compressed values, whether or not it compresses. Raises ConfigError.
    """

    def __init__(
        self, threshold: int | str = "4KiB", *, level: int = 1, max_size: int | str = "64MiB"
    ) -> None:
        self.threshold = parse_size(threshold, at_most=MAX_BYTES, what="Compression: threshold")
        self.max_size = parse_size(max_size, at_most=MAX_BYTES, what="Compression: max_size")
        if type(level) is not int or not 1 <= level <= 9:
            raise ConfigError(f"Compression: level must be an int from 1 to 9, got {level!r:.80}")
        self.level = level

    def __repr__(self) -> str:
        return f"Compression({self.threshold}, level={self.level}, max_size={self.max_size})"

    def compress(self, text: bytes) -> bytes | None:
        """The text compressed; None if it is to stay as it is."""
        if not self.threshold <= len(text) <= self.max_size:
            return None
        packed = pack(text, self.level)
        return packed if len(packed) < PAYS_BELOW * len(text) else None


def pack(text: bytes, level: int = 1) -> bytes:
    """The text compressed."""
    # Few processes need it.
    import zlib

    return zlib.compress(text, level)


def unpack(packed: bytes, size: object, *, max_size: int) -> bytes:
    """What `compress` was given, which had `size` bytes. Raises DecodeError, before more than `max_size` bytes are unpacked."""
    import zlib

    if type(size) is not int or not 0 <= size <= max_size:
        raise DecodeError(
            f"a compressed value says that it has {size!r:.40} bytes when unpacked, but at most {max_size:,} are allowed. If it is "
            "yours, raise max_size: TaskFlow(codecs=[Compression(max_size='256MiB')])"
        )
    unpacker = zlib.decompressobj()
    try:
        # One byte more than it may be, so that a longer text shows.
        text = unpacker.decompress(packed, size + 1)
    except zlib.error as error:
        raise DecodeError(f"a compressed value is damaged: {error}") from error
    if len(text) != size or not unpacker.eof:
        raise DecodeError(
            f"a compressed value is damaged: it does not unpack to the {size:,} bytes that it names"
        )
    return text
