"""Where the elements of an encoded dataset are in a file; no value is read.

So an object of any size can be looked into: only the headers of its elements are read, and of a
bucket only the ranges with headers.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from dicomwire.data.encodings import LONG_VRS, DatasetError, encoding_of

MOST_ELEMENTS = 1_000_000
"""The most elements, items and fragments to pass in one file: a second of work."""
_MAX_DEPTH = 64
_BLOCK = 16 * 1024
"""How many bytes to read at once: the headers of usual objects, up to the pixel data."""
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010
_LONG = frozenset(vr.encode() for vr in LONG_VRS)
_FORMS = {
    order == "<": (
        struct.Struct(f"{order}HH2sH").unpack_from,
        struct.Struct(f"{order}HHI").unpack_from,
        struct.Struct(f"{order}I").unpack_from,
    )
    for order in "<>"
}
"""By "is little endian", the readers of: group, element, VR and short length; group, element and
length; a long length."""


class Seekable(Protocol):
    """What is needed of a file."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, fewer only at the end."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Change the position."""


class Element(NamedTuple):
    """An element of a dataset, by positions in the file."""

    tag: int
    vr: str
    """ "" in implicit VR."""
    header: int
    """Where its tag begins."""
    start: int
    """Where its value begins."""
    end: int
    """Where the value ends; -1 if its length is undefined."""

    @property
    def length(self) -> int:
        """The length of the value in bytes; -1 if it is undefined."""
        return -1 if self.end < 0 else self.end - self.start


class Item(NamedTuple):
    """An item of a sequence, or a fragment of encapsulated pixel data, by positions in the file."""

    header: int
    start: int
    end: int
    """Where the value ends; of an item of undefined length, its delimiter begins there."""
    after: int
    """Where the next one begins."""


class Outline:
    """The elements of the dataset in a file.

    Parameters
    ----------
    file : Seekable
    start : int
        Where the dataset begins.
    transfer_syntax : str
        Its encoding; a deflated dataset has to be inflated before.

    Raises
    ------
    DatasetError
        From all methods, when lengths do not fit, delimiters are missing, sequences are nested too
        deep, or there are too many elements.
    OSError
        When the file cannot be read.
    """

    def __init__(self, file: Seekable, start: int, transfer_syntax: str) -> None:
        self.is_implicit, self.is_little, _ = encoding_of(transfer_syntax)
        self._explicit, self._implicit, self._long = _FORMS[self.is_little]
        self._file = file
        self._start = start
        self.size = file.seek(0, os.SEEK_END)
        self._block = b""
        self._block_at = 0
        self._left = MOST_ELEMENTS

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes between two positions."""
        if end > self.size:
            raise DatasetError(f"byte {start}: the data end within a value")
        self._file.seek(start)
        data = self._file.read(end - start)
        if len(data) != end - start:
            raise OSError("the object changed while it was read")
        return data

    def elements(self) -> Iterator[Element]:
        """Yield the elements of the dataset, not those of its sequences.

        What follows an element of undefined length is looked for only when iteration goes on.
        """
        position = self._start
        while position + 8 <= self.size:
            element = self._element(position, self.size, self.is_implicit)
            if element.tag == 0:  # some writers pad the dataset with zeros
                return
            yield element
            position = element.end if element.end >= 0 else self._after(element)

    def items(self, element: Element) -> Iterator[Item]:
        """Yield the items of a sequence."""
        limit = element.end if element.end >= 0 else self.size
        is_implicit = self.is_implicit or element.vr in ("", "UN")
        position = element.start
        while position < limit:
            tag, length, start = self._delimiter(position, limit)
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM:
                raise DatasetError(f"byte {position}: neither an item nor the end of the sequence")
            if length == _UNDEFINED:
                after = self._after_nested(start, limit, is_implicit)
                part = Item(position, start, after - 8, after)
            else:
                end = self._end(start, length, limit)
                part = Item(position, start, end, end)
            yield part
            position = part.after

    def fragments(self, element: Element, position: int = -1) -> Iterator[Item]:
        """Yield the fragments of encapsulated pixel data (PS3.5 Section A.4).

        Parameters
        ----------
        position : int, optional
            Where one of them begins, to continue from there.
        """
        position = element.start if position < 0 else position
        while True:
            tag, length, start = self._delimiter(position, self.size)
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM or length == _UNDEFINED:
                raise DatasetError(f"byte {position}: neither a fragment nor the end of the value")
            end = self._end(start, length, self.size)
            yield Item(position, start, end, end)
            position = end

    # --- The headers ---

    def _at(self, position: int, size: int, limit: int) -> int:
        """Have `size` bytes at `position` in the block; return where they are in it."""
        if position + size > limit:
            raise DatasetError(f"byte {position}: the data end within an element")
        at = position - self._block_at
        if at < 0 or at + size > len(self._block):
            self._file.seek(position)
            self._block = self._file.read(_BLOCK)
            self._block_at = position
            at = 0
            if len(self._block) < size:
                raise OSError("the object changed while it was read")
        return at

    def _element(self, position: int, limit: int, is_implicit: bool) -> Element:
        self._count()
        at = self._at(position, 8, limit)
        start = position + 8
        name = ""
        if not is_implicit:
            group, number, vr, length = self._explicit(self._block, at)
            if vr in _LONG:
                at = self._at(position, 12, limit)
                (length,) = self._long(self._block, at + 8)
                start += 4
            if b"AA" <= vr <= b"ZZ":
                name = vr.decode("latin-1")
        if not name:  # some writers change to implicit VR within a dataset
            group, number, length = self._implicit(self._block, at)
        end = -1 if length == _UNDEFINED else self._end(start, length, limit)
        return Element(group << 16 | number, name, position, start, end)

    def _delimiter(self, position: int, limit: int) -> tuple[int, int, int]:
        """Return tag and length of an item or a delimiter, and where its value begins."""
        self._count()
        at = self._at(position, 8, limit)
        group, number, length = self._implicit(self._block, at)
        return group << 16 | number, length, position + 8

    def _end(self, start: int, length: int, limit: int) -> int:
        if start + length > limit:
            left = limit - start
            raise DatasetError(f"byte {start}: a value of {length} bytes where {left} are left")
        return start + length

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise DatasetError("the dataset has too many elements")

    # --- Undefined lengths ---

    def _after(self, element: Element) -> int:
        """Return the position after an element of undefined length."""
        if _has_fragments(element):
            position = element.start
            for fragment in self.fragments(element):
                position = fragment.after
            return position + 8
        is_implicit = self.is_implicit or element.vr in ("", "UN")
        return self._after_nested(element.start, self.size, is_implicit, is_sequence=True)

    def _after_nested(
        self, position: int, limit: int, is_implicit: bool, is_sequence: bool = False
    ) -> int:
        """Return the position after a sequence or an item of undefined length.

        Parts of known length are passed without looking into them. The stack holds the open
        sequences (True) and items (False), and whether they are in implicit VR.
        """
        stack = [(is_sequence, is_implicit)]
        while stack:
            is_sequence, is_implicit = stack[-1]
            if len(stack) > 2 * _MAX_DEPTH:
                raise DatasetError(f"sequences are nested more than {_MAX_DEPTH} deep")
            if is_sequence:
                tag, length, start = self._delimiter(position, limit)
                if tag == _SEQUENCE_END:
                    stack.pop()
                    position = start
                elif tag != _ITEM:
                    text = f"byte {position}: neither an item nor the end of the sequence"
                    raise DatasetError(text)
                elif length == _UNDEFINED:
                    stack.append((False, is_implicit))
                    position = start
                else:
                    position = self._end(start, length, limit)
                continue
            element = self._element(position, limit, is_implicit)
            if element.tag == _ITEM_END:
                stack.pop()
                position = element.start
            elif element.end >= 0:
                position = element.end
            elif _has_fragments(element):
                position = self._after(element)
            else:
                stack.append((True, is_implicit or element.vr in ("", "UN")))
                position = element.start
        return position


def _has_fragments(element: Element) -> bool:
    """Return whether a value of undefined length consists of fragments, and not of items."""
    return element.vr not in ("SQ", "UN", "")
