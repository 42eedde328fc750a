"""A cursor over received bytes that never reads past their end.

It checks each length that a peer claims before it slices, so that no memory is allocated for it.
"""

from __future__ import annotations

import struct

from dicomwire.errors import RemoteProtocolError

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")


class Cursor:
    """Reads big-endian fields (PS3.8 Section 9.3.1) from one PDU or item.

    Every read raises `RemoteProtocolError` if fewer bytes are left than it needs.
    """

    __slots__ = ("_end", "_position", "_view", "_what")

    def __init__(self, view: memoryview | bytes, what: str) -> None:
        self._view = memoryview(view)
        self._position = 0
        self._end = len(self._view)
        self._what = what

    @property
    def remaining(self) -> int:
        """The number of bytes that have not been read."""
        return self._end - self._position

    def take(self, size: int) -> memoryview:
        """Return the next `size` bytes as a view."""
        start = self._position
        if size > self._end - start:
            raise RemoteProtocolError(
                f"{self._what}: {size} bytes needed, {self._end - start} present"
            )
        self._position = start + size
        return self._view[start : start + size]

    def skip(self, size: int) -> None:
        """Skip `size` reserved bytes; the standard forbids to test them."""
        self.take(size)

    def u8(self) -> int:
        """Return the next byte as an unsigned integer."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Return the next two bytes as an unsigned integer."""
        value: int = _U16.unpack(self.take(2))[0]
        return value

    def u32(self) -> int:
        """Return the next four bytes as an unsigned integer."""
        value: int = _U32.unpack(self.take(4))[0]
        return value

    def sub(self, size: int, what: str) -> Cursor:
        """Return a cursor over the next `size` bytes; this cursor continues after them."""
        return Cursor(self.take(size), what)

    def rest(self) -> memoryview:
        """Return all remaining bytes as a view."""
        return self.take(self.remaining)

    def check_end(self) -> None:
        """Raise `RemoteProtocolError` if bytes remain."""
        if self.remaining:
            raise RemoteProtocolError(f"{self._what}: {self.remaining} bytes too many")
