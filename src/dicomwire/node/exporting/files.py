"""Writes objects into a folder or a ZIP: all of them, or nothing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from dicomwire.data.new_files import NewFile, new_token
from dicomwire.node.archive import Archive
from dicomwire.node.exporting.dicomdir import Directory
from dicomwire.node.exporting.selection import Exported
from dicomwire.node.files import Damaged, sync_folder
from dicomwire.node.heads import read_head
from dicomwire.node.query import Found

DICOMDIR = "DICOMDIR"
_PIECE = 256 * 1024

Done = Callable[[Exported], object]
"""Called for each object that is written."""


def _ignore(each: Exported) -> None:
    """Report nothing."""


def contents(archive: Archive, each: Exported) -> Iterator[bytes]:
    """Yield the file of an object in pieces, also if it was moved since it was found.

    Raises
    ------
    Damaged
        At the end, when its content is not what was stored.
    OSError
        When it cannot be read, or was deleted.
    """
    with _opened(archive, each) as file:
        piece = file.read(_PIECE)
        try:
            _, offset, _ = read_head(piece, each.size)
        except ValueError as error:
            raise Damaged(f"{each.sop_instance_uid}: {error}") from None
        digest = hashlib.sha256(memoryview(piece)[offset:])
        while piece:
            yield piece
            piece = file.read(_PIECE)
            digest.update(piece)
    digest.update(each.transfer_syntax_uid.encode())
    if digest.hexdigest() != each.digest:
        raise Damaged(f"{each.sop_instance_uid}: its file is damaged")


def _opened(archive: Archive, each: Exported) -> BinaryIO:
    try:
        return archive.objects.open(each.file)
    except FileNotFoundError:
        uids = each.sop_class_uid, each.sop_instance_uid, each.transfer_syntax_uid
        name = archive.name_of_moved(Found(*uids, each.file))
        if name is None:
            text = f"{each.sop_instance_uid}: its file is missing, or was deleted meanwhile"
            raise FileNotFoundError(errno.ENOENT, text) from None
        return archive.objects.open(name)


# --- ZIP --------------------------------------------------------------------------------------


class _Pieces(io.RawIOBase):
    """What is written to a ZIP, until it is taken; it cannot be read or searched."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """Return what was written since the last call."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def zip_of(archive: Archive, objects: Sequence[Exported], done: Done = _ignore) -> Iterator[bytes]:
    """Yield the bytes of a ZIP with objects and their DICOMDIR, of any size.

    Names in it have no data of patients. The members are not compressed: the pixels of most large
    objects are, already. Whoever reads it must get the end, which is missing if this raises.

    Raises
    ------
    OSError
        When an object cannot be read, or is damaged.
    """
    directory = Directory()
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_STORED) as file:
        for each in objects:
            member = zipfile.ZipInfo(directory.add(each), _date_of(each))
            member.file_size = each.size  # so that those above 4 GiB are members of ZIP64
            with file.open(member, "w") as target:
                for piece in contents(archive, each):
                    target.write(piece)
                    yield pieces.take()
            done(each)
        if objects:
            file.writestr(zipfile.ZipInfo(DICOMDIR), directory.encoded())
    yield pieces.take()


def _date_of(each: Exported) -> tuple[int, int, int, int, int, int]:
    """Return the date of the study for a member, or the first day that a ZIP has."""
    text = each.study_date
    if len(text) == 8 and text.isascii() and text.isdigit():
        year, month, day = int(text[:4]), int(text[4:6]), int(text[6:])
        if 1980 <= year <= 2107 and 1 <= month <= 12 and 1 <= day <= 31:
            return year, month, day, 0, 0, 0
    return 1980, 1, 1, 0, 0, 0


def write_zip(
    archive: Archive, objects: Sequence[Exported], target: Path, done: Done = _ignore
) -> None:
    """Write a ZIP, which is there when it is complete and durable.

    Raises
    ------
    FileExistsError
        When there is a file of this name.
    OSError
        When an object cannot be read, or the ZIP not be written; then there is none.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    new = NewFile(str(target.with_name(f".{new_token()}.part")), 0o600)
    try:
        for piece in zip_of(archive, objects, done):
            new.write([piece])
        new.sync()
        new.publish(str(target), exclusive=True)
    finally:
        new.remove()
    sync_folder(str(target.absolute().parent))


# --- Folder -----------------------------------------------------------------------------------


def write_folder(
    archive: Archive, objects: Sequence[Exported], target: Path, done: Done = _ignore
) -> None:
    """Write a folder with objects and their DICOMDIR, which is there when it is complete.

    Raises
    ------
    FileExistsError
        When there is something of this name, except for an empty folder.
    OSError
        When an object cannot be read, or the folder not be written; then there is none.
    """
    if os.path.lexists(target) and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    new = target.with_name(f".{new_token()}.part")
    new.mkdir(0o700, parents=True)
    try:
        _fill(archive, objects, new, done)
        with contextlib.suppress(FileNotFoundError):
            target.rmdir()  # Windows renames nothing onto a folder
        new.rename(target)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    sync_folder(str(target.absolute().parent))


def _fill(archive: Archive, objects: Sequence[Exported], folder: Path, done: Done) -> None:
    directory = Directory()
    for each in objects:
        path = folder / directory.add(each)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, contents(archive, each))
        done(each)
    _write(folder / DICOMDIR, iter([directory.encoded()]))
    for place, _, _ in os.walk(folder):
        sync_folder(place)


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    new = NewFile(str(path), 0o600)
    try:
        for piece in pieces:
            new.write([piece])
        new.sync()
    finally:
        new.close()
