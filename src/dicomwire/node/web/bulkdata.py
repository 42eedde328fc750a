"""WADO-RS: single values of an instance, or ranges of them (PS3.18 Section 10.4).

The path of a value has the tags of sequences, the numbers of items from 1, and the tag of the
element: bulkdata/00880200/1/7FE00010.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dicomwire.data.scanner import DatasetError
from dicomwire.node.archive import Archive
from dicomwire.node.elements import PIECE, Container, Element, ElementReader, Unreadable
from dicomwire.node.users import UserRight
from dicomwire.node.web.byte_ranges import ByteRange, Unsatisfiable, byte_range
from dicomwire.node.web.describing import opened_dataset, vr_of
from dicomwire.node.web.endpoints import INSTANCE, ROOT, Endpoint, Site
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.found import EXPLICIT, Instance, Scope, explained, opened
from dicomwire.node.web.frames import frames_of
from dicomwire.node.web.media_types import Form, accepted_by, choose
from dicomwire.node.web.multipart import BodyPart, Multipart
from dicomwire.node.web.validators import not_modified, validators

_OCTETS = "application/octet-stream"
_FORM = Form(_OCTETS, EXPLICIT, is_default=True, kinds=(False, True))
_PIXEL_DATA = "7FE00010"
_LONGEST_WORD = 8
"""In bytes: ranges of values in big endian begin and end with words."""
_is_path = re.compile(r"([0-9A-F]{8}/[1-9][0-9]{0,5}/){0,64}[0-9A-F]{8}").fullmatch


def bulkdata(request: Request, site: Site) -> Response:
    """Answer with a value, or a range of it."""
    path = request.path_params["element"].upper()
    if not _is_path(path):
        raise Problem(404, "the path is not one of tags and numbers of items")
    found = Scope(request, request.path_params).one()
    with explained(), opened(site.archive, found) as file:
        element, vr = _found(opened_dataset(file)[0], path)
    if element.is_encapsulated and path == _PIXEL_DATA:
        return frames_of(request, site, found)  # all frames (PS3.18 Section 8.7.3.4)
    size = _length(element, vr)
    chosen = choose(accepted_by(request), [_FORM])
    if chosen is None:
        raise Problem(406, f"values are sent as {_OCTETS}, alone or in multipart/related")
    fields = validators(found, path, str(chosen.is_multipart))
    same = not_modified(request, fields)
    if same is not None:
        return same
    whole = ByteRange(0, size, size)
    content_type = f"{_OCTETS}; transfer-syntax={EXPLICIT}"
    if chosen.is_multipart:
        body = Multipart(_OCTETS)
        part = BodyPart({"Content-Type": content_type}, _pieces(site.archive, found, path, whole))
        pieces = site.threads.iterate(body.pieces([part]))
        return StreamingResponse(pieces, media_type=body.media_type, headers=fields)
    try:
        part_of = byte_range(request.headers, size, fields["ETag"])
    except Unsatisfiable as error:
        raise Problem(416, str(error), {"Content-Range": error.content_range}) from None
    asked = part_of or whole
    fields |= {"Accept-Ranges": "bytes", "Content-Length": str(asked.stop - asked.start)}
    if part_of is not None:
        fields["Content-Range"] = part_of.content_range
    return StreamingResponse(
        site.threads.iterate(_pieces(site.archive, found, path, asked)),
        206 if part_of is not None else 200,
        fields,
        _OCTETS,
    )


def _pieces(archive: Archive, found: Instance, path: str, asked: ByteRange) -> Iterator[bytes]:
    """Yield the bytes of a value that are asked for, in little endian."""
    with opened(archive, found) as file:
        reader = opened_dataset(file)[0]
        _, vr = _found(reader, path)
        first = asked.start % _LONGEST_WORD
        reader.skip_bytes(asked.start - first)
        position = asked.start - first
        while position < asked.stop:
            count = min(PIECE, asked.size - position)
            piece = reader.take(count, vr)
            yield piece[first : asked.stop - position]
            first = 0
            position += count


def _length(element: Element, vr: str) -> int:
    """Return the length of a value; Problem 406 if it has none."""
    if element.is_encapsulated:
        raise Problem(406, "compressed pixel data in a sequence cannot be sent alone")
    if element.length is None or vr == "SQ":
        raise Problem(404, "a sequence is no bulk data")
    return element.length


def _found(reader: ElementReader, path: str) -> tuple[Element, str]:
    """Return the element at a path, with its VR; the reader is at its value.

    Raises
    ------
    Problem
        404, when there is none.
    DatasetError
    """
    *above, last = path.split("/")
    container: Container | None = Container(None, None, True)
    try:
        for tag, number in zip(above[::2], above[1::2], strict=True):
            element = _element(reader, container, tag)
            if vr_of(element) != "SQ":
                raise _missing(path)
            sequence = reader.sequence(element)
            for place in range(1, int(number) + 1):
                container = reader.item(sequence)
                if container is None:
                    raise _missing(path)
                if place < int(number):
                    _skip_all(reader, container)
        element = _element(reader, container, last)
    except Unreadable as error:
        raise DatasetError(str(error)) from None
    return element, vr_of(element)


def _element(reader: ElementReader, container: Container | None, tag: str) -> Element:
    assert container is not None
    wanted = int(tag, 16)
    while (element := reader.element(container)) is not None:
        if element.tag == wanted:
            return element
        _skip(reader, element)
    raise _missing(tag)


def _skip_all(reader: ElementReader, container: Container) -> None:
    while (element := reader.element(container)) is not None:
        _skip(reader, element)


def _skip(reader: ElementReader, element: Element) -> None:
    if element.length is not None:
        reader.skip(element)
    elif element.is_encapsulated:
        reader.skip_fragments()
    else:
        sequence = reader.sequence(element)
        while (item := reader.item(sequence)) is not None:
            _skip_all(reader, item)


def _missing(path: str) -> Problem:
    return Problem(404, f"the object has no value {path}")


ENDPOINTS = [
    Endpoint("GET", f"{ROOT}{INSTANCE}/bulkdata/{{element:path}}", UserRight.SEE, bulkdata)
]
