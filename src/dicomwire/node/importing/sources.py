"""The files of a folder, of a ZIP, or a single one, in an order that is always the same.

Nothing outside of the folder is opened, whatever links it has, and no name of a ZIP becomes a path.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, Self

Position = Sequence[str | int]
"""Where a file is in the order of its source: the names of folders and file, or a number."""

_READING = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""How files are opened that others may replace by a link, or for a pipe that nobody writes to."""
_ENCRYPTED = 0x1
"""The bit of a member's flags for encryption (APPNOTE.TXT 4.4.4)."""


class PassedOver(Exception):
    """A file that is not meant to be imported; the text says why."""


class Failure(Exception):
    """A file that cannot be imported; the text says why."""


class Candidate(NamedTuple):
    """A file that may be an object."""

    label: str
    """For people."""
    position: Position


class Source(Protocol):
    """Files to import. Any thread may open them."""

    @property
    def identity(self) -> str:
        """Changes when the source is another one, so that an old position says nothing."""

    def candidates(self, after: Position | None) -> Iterator[Candidate]:
        """Yield the files after a position; all for None."""

    def open(self, candidate: Candidate) -> contextlib.AbstractContextManager[tuple[BinaryIO, int]]:
        """Give the open file, and its size.

        Raises
        ------
        PassedOver, Failure
        """

    def remove(self, candidate: Candidate) -> None:
        """Remove a file that is in the archive now; OSError if that fails."""

    def close(self) -> None:
        """Close what is open."""


def open_source(path: Path, without: Sequence[Path] = ()) -> Source:
    """Return the source at a path; Failure if it cannot be read.

    Parameters
    ----------
    without : sequence of Path
        Folders that no file is taken from: those of the archive itself.
    """
    own = [each.resolve() for each in without]
    if any(path.resolve().is_relative_to(each) for each in own):
        raise Failure(f"{path} is in the archive")
    try:
        if path.is_dir():
            return Folder(path, without=[*map(str, own)])
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        return Zip(path) if is_zip else Folder(path.parent, path.name)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise Failure(f"{path}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class Folder:
    """The files in and below a folder, or one of them; see `Source`.

    Links are passed over: the files that they lead to are imported if they are in the folder.
    """

    def __init__(self, folder: Path, only: str = "", without: Sequence[str] = ()) -> None:
        self._root = os.path.realpath(folder)
        self._only = only
        self._without = frozenset(without)

    @property
    def identity(self) -> str:
        return os.path.join(self._root, self._only)

    def candidates(self, after: Position | None) -> Iterator[Candidate]:
        start = tuple(map(str, after or ()))
        if self._only:
            names: Iterator[tuple[str, ...]] = iter([(self._only,)])
        else:
            names = self._below((), start)
        for each in names:
            if not start or each > start:
                yield Candidate(os.path.join(self._root, *each), each)

    def _below(self, folder: tuple[str, ...], start: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """Yield the files in and below a folder, except for folders that are before `start`."""
        try:
            with os.scandir(os.path.join(self._root, *folder)) as scanned:
                found = [(each.name, each.is_dir(follow_symlinks=False)) for each in scanned]
        except OSError:
            yield folder  # that it cannot be read is told when it is opened
            return
        for name, is_folder in sorted(found):
            path = (*folder, name)
            if is_folder and os.path.join(self._root, *path) in self._without:
                continue
            if is_folder and path >= start[: len(path)]:
                yield from self._below(path, start)
            elif not is_folder:
                yield path

    @contextlib.contextmanager
    def open(self, candidate: Candidate) -> Iterator[tuple[BinaryIO, int]]:
        try:
            with open(os.open(candidate.label, _READING), "rb") as file:
                status = os.fstat(file.fileno())
                if stat.S_ISDIR(status.st_mode):
                    raise Failure("the folder cannot be read")
                if not stat.S_ISREG(status.st_mode):
                    raise PassedOver("it is no regular file")
                yield file, status.st_size
        except OSError as error:
            if error.errno == errno.ELOOP and error.filename is not None:
                raise PassedOver("it is a link") from None
            if error.errno == errno.ENXIO:
                raise PassedOver("it is no regular file") from None
            raise

    def remove(self, candidate: Candidate) -> None:
        os.unlink(candidate.label)

    def close(self) -> None:
        """Do nothing."""


class Zip:
    """The members of a ZIP; see `Source`."""

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        status = self._path.stat()
        self._version = f"{status.st_size}:{status.st_mtime_ns}"
        self._zip = zipfile.ZipFile(self._path)
        self._members = self._zip.infolist()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def identity(self) -> str:
        return f"{self._path}:{self._version}"

    def candidates(self, after: Position | None) -> Iterator[Candidate]:
        first = int(after[0]) + 1 if after else 0
        for number, member in enumerate(self._members[first:], first):
            if not member.is_dir():
                yield Candidate(f"{self._path}: {member.filename}", [number])

    @contextlib.contextmanager
    def open(self, candidate: Candidate) -> Iterator[tuple[BinaryIO, int]]:
        member = self._members[int(candidate.position[0])]
        if member.flag_bits & _ENCRYPTED:
            raise Failure("it is encrypted")
        try:
            with self._zip.open(member) as file:
                yield file, member.file_size  # type: ignore[misc]  # it has all that is needed
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise Failure(_reason(error)) from None

    def remove(self, candidate: Candidate) -> None:
        raise Failure("members of a ZIP cannot be removed")

    def close(self) -> None:
        self._zip.close()
