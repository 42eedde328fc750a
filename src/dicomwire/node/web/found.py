"""The instances that the path of a request names, and their files.

A request sees the index as its user may see it (`request.state.index`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, func, select
from starlette.requests import Request

from dicomwire.data.codec import encoding_of
from dicomwire.data.encodings import DatasetError
from dicomwire.node import query
from dicomwire.node.archive import Archive
from dicomwire.node.index.schema import instance, series, study
from dicomwire.node.pixels.image import Image, NoSuchFrame, NotAnImage
from dicomwire.node.pixels.picture import CannotRender
from dicomwire.node.retention import note_use
from dicomwire.node.transcode import CannotTranscode
from dicomwire.node.visible import VisibleIndex
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.picturing import InvalidParameter

EXPLICIT = "1.2.840.10008.1.2.1"
"""Explicit VR Little Endian: the default of DICOMweb (PS3.18 Section 8.7.3)."""
_is_uid = re.compile(r"[0-9.]{1,64}").fullmatch
_PAGE = 500
"""Rows of one statement; they take a few hundred thousand bytes."""
_JOINED = instance.join(series).join(study)
_COLUMNS = (
    instance.c.id,
    instance.c.sop_class_uid,
    instance.c.sop_instance_uid,
    instance.c.transfer_syntax_uid,
    instance.c.file,
    instance.c.size,
    instance.c.digest,
    instance.c.received,
    study.c.study_instance_uid,
    series.c.series_instance_uid,
)
_UIDS = {
    "study": study.c.study_instance_uid,
    "series": series.c.series_instance_uid,
    "instance": instance.c.sop_instance_uid,
}


class Instance(NamedTuple):
    """An instance in the index."""

    id: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    name: str
    """Its name in the store of objects."""
    size: int
    """Of its file, in bytes."""
    digest: str
    received: str
    """UTC, ISO 8601."""
    study_uid: str
    series_uid: str


class Scope:
    """The instances of a study, a series, or one of them, that a user may see.

    Parameters
    ----------
    request : Request
        Has the index as `state.index`.
    uids : mapping
        "study", "series" and "instance", as far as the path has them.

    Raises
    ------
    Problem
        404, when one of them is no UID.
    """

    def __init__(self, request: Request, uids: Mapping[str, Any]) -> None:
        self._index: VisibleIndex = request.state.index
        self._where: list[ColumnElement[bool]] = []
        for name, column in _UIDS.items():
            if name in uids:
                if not _is_uid(uids[name]):
                    raise Problem(404, "there is no such object")
                self._where.append(column == uids[name])
        self._where += self._index.visible

    def __iter__(self) -> Iterator[Instance]:
        """Iterate over all instances, page by page, in the order in which they were stored."""
        last = 0
        while True:
            found = self._rows(self._select(*_COLUMNS).where(instance.c.id > last), _PAGE)
            yield from found
            if len(found) < _PAGE:
                return
            last = found[-1].id

    def some(self, most: int) -> list[Instance]:
        """Return the first instances; Problem 404 if there are none."""
        found = self._rows(self._select(*_COLUMNS), most)
        if not found:
            raise Problem(404, "there is no such object")
        return found

    def one(self) -> Instance:
        """Return the first instance; Problem 404 if there is none."""
        return self.some(1)[0]

    def transfer_syntaxes(self) -> list[str]:
        """Return the transfer syntaxes of the instances, each once."""
        with self._index.reading_once() as connection:
            statement = self._select(instance.c.transfer_syntax_uid).distinct()
            return list(connection.execute(statement).scalars())

    def examples(self, most: int) -> Iterator[Instance]:
        """Yield instances to show the whole by: of each series the middle one."""
        with self._index.reading_once() as connection:
            statement = self._select(series.c.id, func.count()).group_by(series.c.id)
            counted = connection.execute(statement.order_by(series.c.id).limit(most)).all()
        for number, count in counted:
            middle = self._select(*_COLUMNS).where(series.c.id == number).offset((count - 1) // 2)
            yield from self._rows(middle, 1)

    def _select(self, *columns: Any) -> Select[Any]:
        return select(*columns).select_from(_JOINED).where(*self._where)

    def _rows(self, statement: Select[Any], most: int) -> list[Instance]:
        with self._index.reading_once() as connection:
            rows = connection.execute(statement.order_by(instance.c.id).limit(most))
            return [Instance(*row) for row in rows]


def note_used(archive: Archive, found: Instance) -> None:
    """Note that the study of an instance is used now, if the archive removes unused ones."""
    if archive.configuration.retention.has_limits:
        note_use(archive.index, [_as_found(found)])


def _as_found(found: Instance) -> query.Found:
    uids = found.sop_class_uid, found.sop_instance_uid, found.transfer_syntax_uid
    return query.Found(*uids, found.name)


# --- Files ------------------------------------------------------------------------------------


class Gone(Exception):
    """An instance was deleted after it had been found."""


@contextmanager
def opened(archive: Archive, found: Instance) -> Iterator[BufferedReader]:
    """Open the file of an instance, also if it was moved since it was found.

    Raises
    ------
    Gone, OSError
    """
    with _open(archive, found) as file:
        yield file


def _open(archive: Archive, found: Instance) -> BufferedReader:
    try:
        return archive.objects.open(found.name)
    except FileNotFoundError:
        name = _present_name(archive, found)
    try:
        return archive.objects.open(name)
    except FileNotFoundError:
        raise Gone from None


def _present_name(archive: Archive, found: Instance) -> str:
    name = archive.name_of_moved(_as_found(found))
    if name is None:
        raise Gone
    return name


@contextmanager
def local(archive: Archive, found: Instance) -> Iterator[Path]:
    """Yield a local file with an instance; raises as `opened`."""
    name = found.name
    if not archive.objects.exists(name):
        name = _present_name(archive, found)
    try:
        with archive.objects.local(name) as path:
            yield path
    except FileNotFoundError:
        raise Gone from None


@contextmanager
def opened_image(archive: Archive, found: Instance) -> Iterator[Image]:
    """Open the image of an instance.

    Raises
    ------
    NotAnImage, DatasetError, CannotTranscode, Gone, OSError
    """
    _, is_little, is_deflated = encoding_of(found.transfer_syntax_uid)
    if is_little and not is_deflated:
        with opened(archive, found) as file:
            yield Image(file)
        return
    with (
        local(archive, found) as path,
        archive.converters.converted(path, EXPLICIT) as plain,
        plain.open("rb") as file,
    ):
        yield Image(file)


@contextmanager
def explained() -> Iterator[None]:
    """Answer what an object or a request is unfit for, with its reason."""
    try:
        yield
    except InvalidParameter as error:
        raise Problem(400, str(error)) from None
    except Gone:
        raise Problem(404, "the object was deleted just now") from None
    except NoSuchFrame as error:
        raise Problem(404, str(error)) from None
    except (NotAnImage, CannotRender, CannotTranscode) as error:
        raise Problem(406, f"the object cannot be sent like this: {error}") from None
    except DatasetError as error:
        raise Problem(406, f"the object is damaged: {error}") from None
