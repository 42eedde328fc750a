"""Reads the index entry of an object from its file in the store."""

from __future__ import annotations

import os
import time
from io import BufferedReader

from dicomwire.node.heads import Origin, digest_of, read_head
from dicomwire.node.index.writer import Placed
from dicomwire.node.ingest import Entry, Truncated
from dicomwire.node.objects.port import Objects

BEGIN = 64 * 1024
"""How many bytes of a file to read first: the head, and in most objects all keys."""


def read_object(objects: Objects, file: str) -> Placed:
    """Return the object in a file; its digest is that of the seal, or computed if it has none."""
    with objects.open(file) as opened:
        size = size_of(opened)
        origin, offset, seal = read_head(opened.read(BEGIN), size)
        entry = _entry(opened, offset, origin, size)
        if seal is not None:
            return Placed(entry, file, size, seal.digest.hex(), seal.received)
        digest = digest_of(opened, offset, origin.transfer_syntax_uid)
    path = objects.path(file)
    received = time.time_ns() if path is None else path.stat().st_mtime_ns
    return Placed(entry, file, size, digest.hex(), received // 1000)


def entry_of_file(file: BufferedReader, title: str = "", address: str = "") -> Entry:
    """Return the index entry of the object of a DICOM file, as if a peer had sent it.

    Raises
    ------
    FileFormatError, Unacceptable
        When it is no DICOM file, or cannot be indexed.
    """
    size = size_of(file)
    origin, offset, _ = read_head(file.read(BEGIN), size)
    origin = origin._replace(source_ae=title or origin.source_ae, address=address)
    return _entry(file, offset, origin, size)


def digest_in(opened: BufferedReader) -> bytes:
    """Return the digest of the dataset in a DICOM file.

    Raises
    ------
    FileFormatError
        When it is no DICOM file, or its size is not that of the sealed file.
    """
    size = size_of(opened)
    origin, offset, _ = read_head(opened.read(BEGIN), size)
    return digest_of(opened, offset, origin.transfer_syntax_uid)


def size_of(opened: BufferedReader) -> int:
    """Return the size of a file, which is at its beginning afterwards."""
    size = opened.seek(0, os.SEEK_END)
    opened.seek(0)
    return size


def _entry(file: BufferedReader, offset: int, origin: Origin, size: int) -> Entry:
    """Return the index entry of a dataset; read no more of the file than necessary."""
    length = BEGIN
    while True:
        file.seek(offset)
        is_whole = offset + length >= size
        try:
            return Entry(origin, memoryview(file.read(length)), is_whole)
        except Truncated:
            if is_whole:
                raise
        length *= 16
