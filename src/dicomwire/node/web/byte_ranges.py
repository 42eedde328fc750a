"""A part of a representation: the header fields Range and If-Range (RFC 9110 Section 14)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_range_in = re.compile(r"[ \t]*([0-9]{0,19})[ \t]*-[ \t]*([0-9]{0,19})[ \t]*").fullmatch


class Unsatisfiable(Exception):
    """A range begins after the end; the answer is 416 with `content_range`."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the range is not within the {size} bytes")
        self.content_range = f"bytes */{size}"


class ByteRange(NamedTuple):
    """The bytes from `start` up to `stop` of `size`."""

    start: int
    stop: int
    size: int

    @property
    def content_range(self) -> str:
        """The header field Content-Range."""
        return f"bytes {self.start}-{self.stop - 1}/{self.size}"


def byte_range(headers: Mapping[str, str], size: int, etag: str = "") -> ByteRange | None:
    """Return the range of a representation that a request asks for; None for all of it.

    What is not one range of bytes is ignored, as RFC 9110 allows: several ranges, too.

    Parameters
    ----------
    headers : mapping
        Of the request.
    size : int
        Of the representation, in bytes.
    etag : str, optional
        The entity tag of the representation; If-Range with another one asks for all of it.

    Raises
    ------
    Unsatisfiable
    """
    condition = headers.get("if-range")
    if condition is not None and condition != etag:
        return None
    unit, _, text = headers.get("range", "").partition("=")
    found = _range_in(text)
    if unit.strip().lower() != "bytes" or found is None:
        return None
    first, last = found.groups()
    if first:
        start = int(first)
        stop = min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    elif last:
        start, stop = max(size - int(last), 0), size
    else:
        return None
    if start >= stop:
        raise Unsatisfiable(size)
    return ByteRange(start, stop, size)
