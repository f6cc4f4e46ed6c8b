"""The body of a response as it comes, over either transport: never more of it in memory than allowed."""

import zlib

MAX_RESPONSE_BYTES = 8_000_000
_COMPRESSED = ("gzip", "deflate")


class TooLarge(Exception):  # noqa: N818 - an outcome on its way, never seen by a user
    """The response has more than MAX_RESPONSE_BYTES."""


class CappedBody:
    """Decompresses what a server compressed unasked, and counts both what arrives and what it becomes."""

    def __init__(self, content_encoding: str) -> None:
        self._inflate = zlib.decompressobj(wbits=47) if content_encoding.lower() in _COMPRESSED else None
        self._room = MAX_RESPONSE_BYTES

    def take(self, data: bytes) -> bytes:
        """The next plain bytes. Raises TooLarge before they are in memory, zlib.error for what is not compressed."""
        plain = self._inflate.decompress(data, self._room + 1) if self._inflate else data
        self._room -= max(len(data), len(plain))  # bytes behind the end of a compressed body stay in the decompressor
        if self._room < 0:
            raise TooLarge
        return plain
