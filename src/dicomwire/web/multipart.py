"""Media types, and messages of type multipart: reads and writes them (RFC 2046 Section 5.1).

No input or output is here: a parser takes bytes, and yields parts and their content.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from enum import Enum, auto
from typing import NamedTuple, TypeAlias

from dicomwire.errors import DicomwireError

LONGEST_PREAMBLE = 64 * 1024
"""The most bytes before the first part, and after the last one. Clients send none, or a line."""
LONGEST_HEADERS = 16 * 1024
"""The most bytes of the header fields of a part. Clients send a hundred; a URL may be long."""
MOST_PARTS = 100_000
"""The most parts of a message: more than a large study has objects."""
END_OF_CONTENT = b"\r\n"
"""The bytes after the content of each part."""


class Malformed(DicomwireError, ValueError):
    """A message is not of type multipart as it should be. The text quotes nothing of it."""


# --- Media types ------------------------------------------------------------------------------

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_is_token = re.compile(_TOKEN).fullmatch
_NAME = re.compile(rf"\s*({_TOKEN}/{_TOKEN})\s*")
# An unquoted value may be no token: many clients send type=application/dicom.
_PARAMETER = re.compile(rf';\s*(?:({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"\s*|([^;"]*)))?')
_ESCAPE = re.compile(r"\\(.)")
_is_boundary = re.compile(r"[!-~ ]{0,69}[!-~]").fullmatch


class MediaType(NamedTuple):
    """A media type with its parameters (RFC 9110 Section 8.3.1)."""

    name: str
    """Type and subtype, in lower case."""
    parameters: Mapping[str, str]
    """The values by name; the names are in lower case."""


def media_type(text: str) -> MediaType:
    """Return the media type of a Content-Type field; `Malformed` if it has none."""
    found = _NAME.match(text)
    if found is None:
        raise Malformed("the field Content-Type has no media type")
    name, at = found[1].lower(), found.end()
    parameters: dict[str, str] = {}
    while at < len(text):
        found = _PARAMETER.match(text, at)
        if found is None:
            raise Malformed("a parameter of the media type is malformed")
        at = found.end()
        key, quoted, plain = found.groups()
        if key is not None:
            value = plain.strip() if quoted is None else _ESCAPE.sub(r"\1", quoted)
            parameters.setdefault(key.lower(), value)
    return MediaType(name, parameters)


def boundary_of(kind: MediaType) -> str:
    """Return the boundary of a media type multipart/…; `Malformed` if it has no valid one.

    RFC 2046 Section 5.1.1.
    """
    boundary = kind.parameters.get("boundary", "")
    if not _is_boundary(boundary):
        raise Malformed("the media type has no valid boundary")
    return boundary


# --- Reading ----------------------------------------------------------------------------------


class Part(NamedTuple):
    """The beginning of a part."""

    headers: Mapping[str, str]
    """The values of its header fields by name; the names are in lower case."""


class End(Enum):
    """The end of a part, and of the message."""

    PART = auto()
    MESSAGE = auto()


Event: TypeAlias = Part | memoryview | End
"""The beginning of a part, the next bytes of its content, or an end."""


class _Section(Enum):
    PREAMBLE = auto()
    HEADERS = auto()
    CONTENT = auto()
    EPILOGUE = auto()


_after_boundary = re.compile(rb"(--)|([ \t]{0,128}\r\n)|(?:-|[ \t]{0,128}\r?)\Z").match
"""What follows a boundary: the end of the message, the end of the line, or the end of the bytes
so far, so that more are needed. If it is anything else, this is the beginning of a longer boundary,
such as that of a message within a part."""
_FOLD = re.compile(rb"\r\n[ \t]+")
_has_control = re.compile(rb"[\0-\x08\n-\x1f\x7f]").search


class Parser:
    """Splits a message into parts, whose content it does not keep.

    Parameters
    ----------
    boundary : str
        From `boundary_of`.
    """

    def __init__(self, boundary: str) -> None:
        self._delimiter = b"\r\n--" + boundary.encode("latin-1")
        self._state = _Section.PREAMBLE
        # A delimiter begins with an end of line, which is missing at the beginning of a message.
        self._held = b"\r\n"
        self._skipped = 0  # bytes at the beginning of _held that are no content
        self._dropped = 0  # bytes of the preamble or the epilogue
        self._parts_left = MOST_PARTS

    @property
    def is_complete(self) -> bool:
        """Whether the last boundary has been read."""
        return self._state is _Section.EPILOGUE

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield what the next bytes of the message contain; `Malformed` if it is not multipart.

        Take all before the next call.
        """
        buffer, self._held = self._held + data if self._held else data, b""
        at = 0
        while at < len(buffer):
            if self._state is _Section.EPILOGUE:
                self._drop(len(buffer) - at)
                return
            if self._state is _Section.HEADERS:
                end = buffer.find(b"\r\n\r\n", at)
                if (end if end >= 0 else len(buffer)) - at > LONGEST_HEADERS:
                    raise Malformed("the header fields of a part are too long")
                if end < 0:
                    break
                yield Part(_fields(buffer[at + 2 : end]))
                # The end of the empty line may be the beginning of the next delimiter.
                at, self._skipped, self._state = end + 2, 2, _Section.CONTENT
            at = yield from self._until_delimiter(buffer, at)
            if self._state in (_Section.PREAMBLE, _Section.CONTENT):
                break
        self._held = buffer[at:]

    def finish(self) -> Iterable[Event]:
        """Note that the message has ended; `Malformed` if the last boundary is missing."""
        if not self.is_complete:
            raise Malformed("the message ends before its last boundary")
        return ()

    def _until_delimiter(self, buffer: bytes, at: int) -> Generator[Event, None, int]:
        """Yield the content before the next delimiter; return the position of what follows it.

        If the delimiter is not complete, that is the position of the bytes to keep.
        """
        begin, search = at + self._skipped, at
        while True:
            found = buffer.find(self._delimiter, search)
            if found < 0:
                found = self._beginning_of_delimiter(buffer, at)
                break
            search = found + len(self._delimiter)
            following = _after_boundary(buffer, search)
            if following is None:
                continue
            is_last, is_line = following[1] is not None, following[2] is not None
            if not is_last and not is_line:
                break
            yield from self._content(buffer, begin, found)
            if self._state is _Section.CONTENT:
                yield End.PART
            self._skipped = self._dropped = 0
            if is_last:
                self._state = _Section.EPILOGUE
                yield End.MESSAGE
                return following.end()
            self._parts_left -= 1
            if self._parts_left < 0:
                raise Malformed("the message has too many parts")
            self._state = _Section.HEADERS
            return following.end() - 2
        yield from self._content(buffer, begin, found)
        self._skipped = max(0, begin - found)
        return found

    def _beginning_of_delimiter(self, buffer: bytes, at: int) -> int:
        """Return where a delimiter begins that may continue after `buffer`; its end if none."""
        begin = buffer.rfind(b"\r", max(at, len(buffer) - len(self._delimiter) + 1))
        if begin >= 0 and self._delimiter.startswith(buffer[begin:]):
            return begin
        return len(buffer)

    def _content(self, buffer: bytes, begin: int, end: int) -> Iterator[memoryview]:
        if begin < end:
            if self._state is _Section.CONTENT:
                yield memoryview(buffer)[begin:end]
            else:
                self._drop(end - begin)

    def _drop(self, count: int) -> None:
        self._dropped += count
        if self._dropped > LONGEST_PREAMBLE:
            raise Malformed("there are too many bytes before the first part, or after the last")


class Single:
    """Takes a message that is not of type multipart as one part; see `Parser`.

    Parameters
    ----------
    kind : str
        Its field Content-Type.
    """

    def __init__(self, kind: str) -> None:
        self._begin: Part | None = Part({"content-type": kind})

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the next bytes as content."""
        if self._begin is not None:
            yield self._begin
            self._begin = None
        if data:
            yield memoryview(data)

    def finish(self) -> Iterable[Event]:
        """Yield the end."""
        yield from self.feed(b"")
        yield from (End.PART, End.MESSAGE)


def _fields(block: bytes) -> dict[str, str]:
    """Return the values of header fields by name; of several with one name the first counts."""
    fields: dict[str, str] = {}
    for line in _FOLD.sub(b" ", block).split(b"\r\n") if block else ():
        name, colon, value = line.partition(b":")
        key = name.decode("latin-1")
        if not colon or not _is_token(key) or _has_control(value):
            raise Malformed("a header field of a part is malformed")
        fields.setdefault(key.lower(), value.strip(b" \t").decode("latin-1"))
    return fields


# --- Writing ----------------------------------------------------------------------------------


def new_boundary() -> str:
    """Return a boundary that cannot be guessed, so that no content has it."""
    return os.urandom(16).hex()


def part_head(boundary: str, headers: Mapping[str, str]) -> bytes:
    """Return the bytes before the content of a part; `END_OF_CONTENT` follows the content."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"--{boundary}\r\n{lines}\r\n".encode("latin-1")


def message_end(boundary: str) -> bytes:
    """Return the bytes after the last part."""
    return f"--{boundary}--\r\n".encode("latin-1")
