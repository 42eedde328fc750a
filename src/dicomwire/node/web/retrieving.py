"""Studies, series and instances as DICOM files, whole (PS3.18 Section 10.4).

An object is sent piece by piece: as it is stored, or converted by a process with limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from itertools import chain, islice
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dicomwire.data.codec import encoding_of
from dicomwire.node.archive import Archive
from dicomwire.node.explicit import TooLong, explicit_pieces
from dicomwire.node.reading import size_of
from dicomwire.node.users import UserRight
from dicomwire.node.web.byte_ranges import ByteRange, Unsatisfiable, byte_range
from dicomwire.node.web.endpoints import INSTANCE, ROOT, SERIES, STUDY, Endpoint, Site
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.found import (
    EXPLICIT,
    Gone,
    Instance,
    Scope,
    explained,
    local,
    note_used,
    opened,
)
from dicomwire.node.web.media_types import Chosen, Form, accepted_by, choose
from dicomwire.node.web.multipart import BodyPart, Multipart
from dicomwire.node.web.representations import DICOM, content_type, forms_of_object
from dicomwire.node.web.validators import not_modified, validators

_PIECE = 512 * 1024
"""In bytes; a response has a few of them in memory."""

Choices = dict[str, Chosen]
"""What is to be sent, by the transfer syntax in which an object is stored."""


def retrieve(request: Request, site: Site) -> Response:
    """Answer with all objects of a study or series, or with an instance."""
    scope = Scope(request, request.path_params)
    found = scope.one()
    note_used(site.archive, found)
    is_instance = "instance" in request.path_params
    choices, status = _choices(request, scope, (True, False) if is_instance else (True,))
    first = choices.get(found.transfer_syntax_uid)
    if is_instance and first is not None and not first.is_multipart:
        return whole(request, site, found, first.form)
    with explained():
        parts = _parts(site.archive, scope, choices)
        parts = chain([*islice(parts, 1)], parts)  # what fails at once has a status
    body = Multipart(DICOM)
    return StreamingResponse(
        site.threads.iterate(body.pieces(parts)),
        status,
        {"Cache-Control": "private, no-store", "Vary": "Accept"},
        body.media_type,
    )


def _choices(request: Request, scope: Scope, kinds: tuple[bool, ...]) -> tuple[Choices, int]:
    """Return what to send, and the status: 206 if the client does not accept some of the objects.

    The representation of the objects is known by their transfer syntaxes, before any is read.
    """
    ranges = accepted_by(request)
    syntaxes = scope.transfer_syntaxes()
    choices: Choices = {}
    for syntax in syntaxes:
        chosen = choose(ranges, forms_of_object(syntax, kinds))
        if chosen is not None:
            choices[syntax] = chosen
    if not choices:
        forms = {form for syntax in syntaxes for form in forms_of_object(syntax, kinds)}
        offered = ", ".join(sorted(map(content_type, forms)))
        raise Problem(406, f"the objects can be sent as parts of: {offered}")
    return choices, 200 if len(choices) == len(syntaxes) else 206


def _parts(archive: Archive, scope: Scope, choices: Choices) -> Iterator[BodyPart]:
    for found in scope:
        chosen = choices.get(found.transfer_syntax_uid)
        if chosen is None:
            continue
        try:
            with represented(archive, found, chosen.form.transfer_syntax) as content:
                yield BodyPart({"Content-Type": content_type(chosen.form)}, content.pieces())
        except Gone:
            continue  # it is no longer one of the objects


# --- One object -------------------------------------------------------------------------------


class Content(NamedTuple):
    """A representation of an object, open for reading: a file, or pieces that are made."""

    file: BufferedReader | None
    made: Iterator[bytes] = iter(())

    @property
    def size(self) -> int | None:
        """In bytes; None if it is known only at the end."""
        return None if self.file is None else size_of(self.file)

    def pieces(self, part: ByteRange | None = None) -> Iterator[bytes]:
        """Yield the bytes, or those of a part."""
        if self.file is None:
            yield from self.made
            return
        self.file.seek(0 if part is None else part.start)
        left = None if part is None else part.stop - part.start
        while piece := self.file.read(_PIECE if left is None else min(_PIECE, left)):
            yield piece
            if left is not None:
                left -= len(piece)


@contextmanager
def represented(archive: Archive, found: Instance, target: str) -> Iterator[Content]:
    """Open an object in the transfer syntax `target`.

    Raises
    ------
    CannotTranscode, DatasetError, Gone, OSError
    """
    stored = found.transfer_syntax_uid
    if stored == target:
        with opened(archive, found) as file:
            yield Content(file)
        return
    if target == EXPLICIT and encoding_of(stored)[0]:
        with opened(archive, found) as file:
            made = explicit_pieces(file)
            try:
                first = [*islice(made, 1)]
            except TooLong:
                pass
            else:
                yield Content(None, chain(first, made))
                return
    with (
        local(archive, found) as path,
        archive.converters.converted(path, target) as converted,
        converted.open("rb") as file,
    ):
        yield Content(file)


def whole(request: Request, site: Site, found: Instance, form: Form) -> Response:
    """Answer with one object as the only part, or with the range of it that was asked for."""
    fields = validators(found, *form[:2])
    same = not_modified(request, fields)
    if same is not None:
        return same
    with explained():
        pieces = _sent(site.archive, found, form.transfer_syntax, request.headers, fields["ETag"])
        size, part = next(pieces)
    status = 200
    if isinstance(part, Unsatisfiable):
        raise Problem(416, str(part), {"Content-Range": part.content_range})
    if size is not None:
        fields["Accept-Ranges"] = "bytes"
        fields["Content-Length"] = str(size)
    if part is not None:
        status = 206
        fields["Content-Range"] = part.content_range
        fields["Content-Length"] = str(part.stop - part.start)
    return StreamingResponse(site.threads.iterate(pieces), status, fields, content_type(form))


def _sent(
    archive: Archive, found: Instance, target: str, headers: Mapping[str, str], etag: str
) -> Iterator[Any]:
    """Yield the size of an object and the range to send, and then its pieces.

    So the file is opened by the generator, which closes it, also when nobody goes on with it.
    """
    with represented(archive, found, target) as content:
        size = content.size
        part = None
        if size is not None:
            try:
                part = byte_range(headers, size, etag)
            except Unsatisfiable as error:
                yield size, error
                return
        yield size, part
        yield from content.pieces(part)


ENDPOINTS = [
    Endpoint("GET", ROOT + path, UserRight.SEE, retrieve) for path in (STUDY, SERIES, INSTANCE)
]
