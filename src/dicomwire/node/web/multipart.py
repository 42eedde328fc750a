"""Makes bodies of several parts, multipart/related (RFC 2387, PS3.18 Section 8.6.1.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from dicomwire.web.multipart import END_OF_CONTENT, message_end, new_boundary, part_head


class BodyPart(NamedTuple):
    """A part of a body: its header fields, and its content in pieces."""

    headers: Mapping[str, str]
    pieces: Iterable[bytes]


class Multipart:
    """A body of several parts.

    Parameters
    ----------
    type : str
        The media type of its parts, or of the first one, such as "application/dicom".
    parameters : str, optional
        Further parameters of its media type, such as "; transfer-syntax=1.2.840.10008.1.2.1".

    Attributes
    ----------
    media_type : str
        For the header field Content-Type.
    """

    def __init__(self, type: str, parameters: str = "") -> None:
        self._boundary = new_boundary()
        self.media_type = f'multipart/related; type="{type}"{parameters}; boundary={self._boundary}'

    def pieces(self, parts: Iterable[BodyPart]) -> Iterator[bytes]:
        """Yield the body, part by part."""
        for headers, pieces in parts:
            yield part_head(self._boundary, headers)
            yield from pieces
            yield END_OF_CONTENT
        yield message_end(self._boundary)
