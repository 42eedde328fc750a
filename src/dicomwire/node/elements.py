"""Reads encoded datasets from beginning to end, element by element, with little memory.

Values are read or skipped as the caller wants, also in sequences; what senders often get wrong is
accepted.
"""

from __future__ import annotations

import array
import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from dicomwire.data.codec import INFLATE_CEILING, encoding_of
from dicomwire.data.scanner import LONG_VRS

PIECE = 2**20
"""Bytes of a dataset in memory at a time; the end of a value may take twice as many."""
_MAX_ELEMENTS = 1_000_000
"""The most elements and items to read: a few seconds of work."""

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010
_OF_ENCODING = frozenset(
    {
        0x00080001,  # Length to End
        0x7FE00001,  # Extended Offset Table
        0x7FE00002,  # Extended Offset Table Lengths
        0xFFFCFFFC,  # Data Set Trailing Padding, which items may have too
    }
)
"""Elements that describe the encoding of a dataset, as group lengths do."""

_LONG = frozenset(vr.encode() for vr in LONG_VRS)
_WORDS = {
    **dict.fromkeys(("AT", "OW", "SS", "US"), "H"),
    **dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), "I"),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), "Q"),
}
"""The VRs whose values depend on the byte order, with the `array` type code of their words."""


class Unreadable(ValueError):
    """A dataset is damaged, or too large or nested too deep to be read."""


class Element(NamedTuple):
    """The header of an element; the reader is positioned at its value."""

    tag: int
    vr: str | None
    """None in implicit VR."""
    length: int | None
    """None if it is undefined."""

    @property
    def own_vr(self) -> str | None:
        """The VR of the element if its sender knew it; UN means unknown (PS3.5 Section 6.2.2)."""
        return None if self.vr == "UN" else self.vr

    @property
    def is_encapsulated(self) -> bool:
        """Whether its value consists of fragments."""
        if self.length is not None:
            return False
        return self.tag == PIXEL_DATA or self.own_vr not in (None, "SQ")


class Container:
    """A dataset, sequence or item while it is read."""

    __slots__ = ("end", "is_implicit", "is_whole")

    def __init__(self, end: int | None, is_implicit: bool | None, is_whole: bool = False) -> None:
        self.end = end
        """Where it ends; None if a delimiter or the end of the file ends it."""
        self.is_implicit = is_implicit
        """Whether it is in implicit VR; None until its first element shows that."""
        self.is_whole = is_whole
        """Whether it is the whole dataset, which the end of the file ends."""


class ElementReader:
    """Reads a dataset from beginning to end, element by element.

    Parameters
    ----------
    file : BinaryIO
        A file that is positioned at the dataset.
    transfer_syntax : str
    most : int, optional
        The most elements and items; more of them are `Unreadable`.
    """

    def __init__(self, file: BinaryIO, transfer_syntax: str, most: int | None = None) -> None:
        _, is_little, deflated = encoding_of(transfer_syntax)
        self._file: BinaryIO | io.BufferedReader = file
        self._can_seek = not deflated
        if deflated:
            self._file = io.BufferedReader(_Inflated(file), PIECE)
        order = "<" if is_little else ">"
        self._explicit = struct.Struct(f"{order}HH2sH").unpack
        self._implicit = struct.Struct(f"{order}HHL").unpack
        self._length = struct.Struct(f"{order}L").unpack
        self._is_swapped = not is_little
        self._position = 0
        self._left = _MAX_ELEMENTS if most is None else most

    def element(self, container: Container) -> Element | None:
        """Return the next element that is compared; None at the end of its dataset or item."""
        while not self._is_at_end(container):
            head = self._file.read(8)
            if container.is_whole and len(head) < 8 and not head.strip(b"\0"):
                return None  # some writers pad the whole dataset
            element = self._header(head, container)
            if element.tag == _ITEM_END:
                if container.is_whole or container.end is not None:
                    raise Unreadable("there is an item delimiter outside of an item")
                return None
            if element.tag not in _OF_ENCODING and element.tag & 0xFFFF:
                return element
            self.skip(element)
        return None

    def item(self, sequence: Container) -> Container | None:
        """Return the next item of a sequence; None at its end."""
        if self._is_at_end(sequence):
            return None
        tag, length = self._item_header()
        if tag == _SEQUENCE_END:
            return None
        if tag != _ITEM:
            raise Unreadable("a sequence contains something other than items")
        # Some writers change to implicit VR for a single item.
        return self._container(length, sequence.is_implicit or None)

    def sequence(self, element: Element) -> Container:
        """Return the container of a sequence, for `item`."""
        return self._container(element.length, element.vr in (None, "UN"))

    def take(self, count: int, vr: str) -> bytes:
        """Return the next `count` bytes of a value, converted to little endian."""
        data = self._exactly(count)
        code = _WORDS.get(vr) if self._is_swapped else None
        if code is None:
            return data
        words = array.array(code)
        if count % words.itemsize:
            raise Unreadable("a value ends within a number")
        words.frombytes(data)
        words.byteswap()
        return words.tobytes()

    def skip(self, element: Element) -> None:
        """Skip the value of an element, which must have a defined length."""
        if element.length is None:
            raise Unreadable("the length of an element must not be undefined")
        self.skip_bytes(element.length)

    def skip_bytes(self, count: int) -> None:
        """Skip a part of a value."""
        self._pass(count, None)

    def skip_fragments(self) -> None:
        """Skip the value of an encapsulated element."""
        while (length := self._fragment()) is not None:
            self._pass(length, None)

    def pixels(self, element: Element) -> bytes | None:
        """Read pixel data; return a digest of its fragments (PS3.5 Section A.4), None for native.

        The digest does not depend on the boundaries of fragments. It leaves out the first item,
        the Basic Offset Table.
        """
        if not element.is_encapsulated:
            self.skip(element)
            return None
        digest = hashlib.sha256()
        is_first = True
        while (length := self._fragment()) is not None:
            self._pass(length, None if is_first else digest.update)
            is_first = False
        return digest.digest()

    def _fragment(self) -> int | None:
        """Return the length of the next fragment; None at the end of the value."""
        tag, length = self._item_header()
        if tag == _SEQUENCE_END:
            return None
        if tag != _ITEM or length is None:
            raise Unreadable("encapsulated pixel data contains something other than fragments")
        return length

    def _container(self, length: int | None, is_implicit: bool | None) -> Container:
        return Container(None if length is None else self._position + length, is_implicit)

    def _is_at_end(self, container: Container) -> bool:
        if container.end is None or self._position < container.end:
            return False
        if self._position > container.end:
            raise Unreadable("a value is longer than its item or sequence")
        return True

    def _header(self, head: bytes, container: Container) -> Element:
        self._count(head)
        code = head[4:6]
        has_vr = code.isalpha() and code.isupper()
        if container.is_implicit is None:
            container.is_implicit = not has_vr
        if container.is_implicit or not has_vr:  # some writers leave out the VR of single elements
            group, number, length = self._implicit(head)
            vr = None
        else:
            group, number, _, length = self._explicit(head)
            vr = code.decode()
            if code in _LONG:
                (length,) = self._length(self._exactly(4))
        return Element(group << 16 | number, vr, None if length == _UNDEFINED else length)

    def _item_header(self) -> tuple[int, int | None]:
        head = self._file.read(8)
        self._count(head)
        group, number, length = self._implicit(head)
        return group << 16 | number, None if length == _UNDEFINED else length

    def _count(self, head: bytes) -> None:
        self._position += 8
        self._left -= 1
        if len(head) < 8:
            raise Unreadable("the dataset is truncated")
        if self._left < 0:
            raise Unreadable("the dataset has too many elements")

    def _exactly(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise Unreadable("the dataset is truncated")
        self._position += count
        return data

    def _pass(self, count: int, use: Callable[[bytes], None] | None) -> None:
        if use is None and count > PIECE and self._can_seek:
            self._file.seek(count - 1, io.SEEK_CUR)
            self._position += count - 1
            count = 1  # the last byte shows whether all are there
        while count:
            piece = self._exactly(min(count, PIECE))
            count -= len(piece)
            if use is not None:
                use(piece)


class _Inflated(io.RawIOBase):
    """A file object that inflates a deflated dataset (PS3.5 Section A.5) while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._left = INFLATE_CEILING

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._inflater.eof:
            deflated = self._inflater.unconsumed_tail or self._file.read(PIECE)
            try:
                data = self._inflater.decompress(deflated, len(buffer))
            except zlib.error:
                raise Unreadable("the dataset is not deflated, or damaged") from None
            self._left -= len(data)
            if self._left < 0:
                raise Unreadable("the dataset inflates beyond the ceiling")
            if data:
                buffer[: len(data)] = data
                return len(data)
            if not deflated:
                raise Unreadable("the deflated dataset is truncated")
        return 0
