"""Received datasets, in memory or in a file.

`sinks` holds them while they are being received.
"""

from __future__ import annotations

import io
import mmap
from abc import ABC, abstractmethod
from pathlib import Path
from typing import BinaryIO

from dicomwire.data.budgets import Share
from dicomwire.data.new_files import spool_file, unlink


class Payload(ABC):
    """A received dataset in its encoded form.

    Attributes
    ----------
    size : int
        Its number of bytes.
    path : Path or None
        The file that holds it; None if it is in memory.
    offset : int
        Its position in that file; 0 unless the file is a DICOM file.
    """

    __slots__ = ("_dicom_file", "_directory", "_share", "size")

    offset = 0

    def __init__(self, size: int, directory: str | None, share: Share | None = None) -> None:
        self.size = size
        self._directory = directory
        self._share = share
        self._dicom_file: str | None = None

    @property
    @abstractmethod
    def path(self) -> Path | None:
        """The file that holds the dataset; None if it is in memory."""

    @abstractmethod
    def view(self) -> memoryview:
        """Return the bytes; a file is mapped into memory, not read."""

    @abstractmethod
    def open(self) -> BinaryIO:
        """Return an open file, positioned at the beginning of the dataset."""

    def getvalue(self) -> bytes:
        """Return the bytes."""
        return self.view().tobytes()

    def dicom_file(self, head: bytes) -> Path:
        """Return a DICOM file of the dataset.

        If there is none, this writes a temporary one, which begins with `head` and which `discard`
        removes.
        """
        path = self.path
        if self.offset and path is not None:
            return path
        if self._dicom_file is None:
            file = spool_file(self._directory)
            try:
                file.write([head, self.view()])
            except BaseException:
                file.remove()
                raise
            file.close()
            self._dicom_file = file.path
        return Path(self._dicom_file)

    def discard(self) -> None:
        """Remove temporary files; data in memory stay. It never raises."""
        if self._dicom_file is not None:
            unlink(self._dicom_file)
            self._dicom_file = None
        if self._share is not None:
            self._share.give(self.size)
            self._share = None


class MemoryPayload(Payload):
    """A dataset in memory, counted in `share` until it is discarded."""

    __slots__ = ("_data",)

    path = None

    def __init__(
        self, data: bytearray, directory: str | None = None, share: Share | None = None
    ) -> None:
        # As in `Payload.__init__`, without a call of it for each object.
        self.size = len(data)
        self._directory = directory
        self._share = share
        self._dicom_file: str | None = None
        self._data = data

    def view(self) -> memoryview:
        """Return the bytes."""
        return memoryview(self._data).toreadonly()

    def open(self) -> BinaryIO:
        """Return the bytes as a file."""
        return io.BytesIO(self._data)


class FilePayload(Payload):
    """A dataset in a file, counted in `share` until it is discarded.

    `discard` removes the file if it is temporary.
    """

    __slots__ = ("_is_temporary", "_path", "_view", "offset")

    def __init__(
        self,
        path: str,
        offset: int,
        size: int,
        is_temporary: bool = False,
        directory: str | None = None,
        share: Share | None = None,
    ) -> None:
        # As in `Payload.__init__`, without a call of it for each object.
        self.size = size
        self._directory = directory
        self._share = share
        self._dicom_file: str | None = None
        self.offset = offset
        self._path = path
        self._is_temporary = is_temporary
        self._view: memoryview | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self._path)

    def view(self) -> memoryview:
        """Return the bytes, mapped into memory: do not shorten the file while they are in use."""
        if self._view is None:
            if not self.size:
                return memoryview(b"")
            with io.FileIO(self._path) as file:
                mapped = mmap.mmap(file.fileno(), self.offset + self.size, access=mmap.ACCESS_READ)
            self._view = memoryview(mapped)[self.offset :]
        return self._view

    def open(self) -> BinaryIO:
        """Return the file, positioned at the dataset."""
        file = self.path.open("rb")
        file.seek(self.offset)
        return file

    def discard(self) -> None:
        """Remove temporary files."""
        self._view = None
        if self._is_temporary:
            unlink(self._path)
        if self._dicom_file is not None or self._share is not None:
            super().discard()
